//! Prints perceptual hash, quality and path of each picture of the command line, one a line.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        let picture = media::decode(&std::fs::read(&path)?, &media::Limits::default())?;
        let found = media::perceptual_hash(picture.width, picture.height, &picture.rgb);
        println!("{} {} {path}", found.hash, found.quality);
    }
    Ok(())
}
