//! What Content Credentials cost: milliseconds to sign and to read a picture of 1024 pixels square, and
//! bytes added.
//!
//! ```text
//! cargo run -p credentials --example bench_credentials -- [PICTURES]
//! ```
//!
//! Signs the same noisy picture again and again in each format, reads each result back, and prints one
//! JSON object.

use std::error::Error;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use credentials::{
    CredentialSigner, DevChain, ManifestCaps, ManifestReader, ModelStatement, Operator, Software,
    State, Statement, Work,
};
use media::{ExifTexts, Format};
use serde_json::{Value, json};

const SIDE: u32 = 1_024;

fn main() -> Result<(), Box<dyn Error>> {
    let pictures: usize = std::env::args()
        .nth(1)
        .map_or(Ok(100), |text| text.parse())?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let made = DevChain::make("bench.local/log", i64::try_from(now_s)?)?;
    let reader = ManifestReader::new(&made.root_pem, ManifestCaps::default())?;
    let signer = CredentialSigner::new(made.chain, &made.key)?;
    let mut document = json!({ "side": SIDE, "pictures": pictures });
    for format in [Format::Png, Format::Jpeg, Format::Webp] {
        let name = format.to_string().to_ascii_lowercase();
        document[name] = measure(&signer, &reader, (format, pictures))?;
    }
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

fn measure(
    signer: &CredentialSigner,
    reader: &ManifestReader,
    (format, pictures): (Format, usize),
) -> Result<Value, Box<dyn Error>> {
    let file = picture(format)?;
    let statement = statement(format);
    let (mut signing, mut reading) = (Vec::new(), Vec::new());
    let mut added = 0;
    for _ in 0..pictures {
        let source = file.clone();
        let started = Instant::now();
        let signed = signer.sign(source, &statement)?;
        signing.push(started.elapsed().as_secs_f64() * 1_000.0);
        let started = Instant::now();
        let read = reader.read(&signed, format);
        reading.push(started.elapsed().as_secs_f64() * 1_000.0);
        if read.is_none_or(|read| read.state != State::Trusted) {
            return Err("what was signed does not hold".into());
        }
        added = signed.len() - file.len();
    }
    Ok(json!({
        "file_bytes": file.len(),
        "bytes_added": added,
        "sign_ms": quantiles(signing),
        "read_ms": quantiles(reading),
    }))
}

fn quantiles(mut milliseconds: Vec<f64>) -> Value {
    milliseconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = milliseconds.len().saturating_sub(1);
        milliseconds.get((share * last as f64).round() as usize)
    };
    json!({ "p50": at(0.5), "p95": at(0.95) })
}

/// A picture that compresses about as a photograph does: noise over a slope.
fn picture(format: Format) -> Result<Vec<u8>, media::MediaError> {
    let rgb: Vec<u8> = (0..SIDE * SIDE * 3)
        .map(|at| {
            let noise = at.wrapping_mul(2_654_435_761) >> 28;
            (at / (SIDE * 16) + noise) as u8
        })
        .collect();
    let texts = ExifTexts {
        software: "Retrace",
        user_comment: None,
    };
    match format {
        Format::Png => media::encode_png(SIDE, SIDE, &rgb, &[("Software", "Retrace")]),
        Format::Jpeg => media::encode_jpeg((SIDE, SIDE), &rgb, 95, &texts),
        Format::Webp => media::encode_webp((SIDE, SIDE), &rgb, &texts),
    }
}

fn statement(format: Format) -> Statement<'static> {
    Statement {
        format,
        software: Software {
            name: "Retrace",
            version: env!("CARGO_PKG_VERSION"),
        },
        operator: Operator {
            name: "bench.local/log",
            log: "bench.local/log",
        },
        model: ModelStatement {
            name: "bench-model",
            digest: "c4afba82",
        },
        work: Work::Created,
        request_id: "bench",
        image_index: 0,
        created_at_ms: 1_795_421_854_095,
        soft_bindings: &[],
    }
}
