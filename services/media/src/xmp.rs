//! The few XMP properties that say how a picture came to be (ISO 16684-1, IPTC Photo
//! Metadata 2025).

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::metadata::{MetadataItem, Place};

/// Local names of the properties that are kept.
const PROPERTIES: [&str; 8] = [
    "DigitalSourceType",
    "CreatorTool",
    "Credit",
    "softwareAgent",
    "AISystemUsed",
    "AISystemVersionUsed",
    "AIGC",
    "UserComment",
];

/// Items that one packet may yield; real packets have a handful.
const ITEMS_MAX: usize = 64;

/// Reads the kept properties, written as attributes or as elements; none when the packet is
/// no well-formed XML. Entities are not expanded and nothing is fetched.
pub(crate) fn read(packet: &[u8]) -> Option<Vec<MetadataItem>> {
    let text = String::from_utf8_lossy(packet);
    let mut reader = Reader::from_str(text.trim_matches(['\0', '\u{feff}']));
    let mut items = Vec::new();
    let mut open: Option<&'static str> = None;
    while items.len() < ITEMS_MAX {
        match reader.read_event().ok()? {
            Event::Eof => break,
            Event::Start(element) => {
                open = kept(element.local_name().as_ref());
                attributes(&element, open, &mut items);
            }
            Event::Empty(element) => {
                let name = kept(element.local_name().as_ref());
                attributes(&element, name, &mut items);
            }
            Event::Text(content) => {
                if let Some(property) = open {
                    push(property, &content, &mut items);
                }
            }
            Event::End(_) => open = None,
            _ => {}
        }
    }
    Some(items)
}

/// Properties in attributes: shorthand properties by their own name, and `rdf:resource` as
/// the value of the element's property.
fn attributes(
    element: &BytesStart<'_>,
    owner: Option<&'static str>,
    items: &mut Vec<MetadataItem>,
) {
    for attribute in element.attributes().flatten() {
        let local = attribute.key.local_name();
        let property = match kept(local.as_ref()) {
            Some(property) => Some(property),
            None if local.as_ref() == "resource" => owner,
            None => None,
        };
        if let Some(property) = property {
            push(property, &attribute.value, items);
        }
    }
}

fn kept(local_name: &str) -> Option<&'static str> {
    PROPERTIES.into_iter().find(|name| *name == local_name)
}

fn push(property: &str, value: &str, items: &mut Vec<MetadataItem>) {
    let value = value.trim();
    if !value.is_empty() && items.len() < ITEMS_MAX {
        items.push(MetadataItem::new(Place::Xmp(property.to_owned()), value));
    }
}
