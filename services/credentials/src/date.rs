//! Times as certificates and manifests write them.

use time::OffsetDateTime;

/// A moment as RFC 3339 in UTC to the second; none outside the years 0 to 9999.
pub fn rfc3339(unix_s: i64) -> Option<String> {
    let moment = moment(unix_s)?;
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.to_hms();
    (0..=9_999).contains(&year).then(|| {
        let month = u8::from(month);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    })
}

pub(crate) fn moment(unix_s: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(unix_s).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(rfc3339(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_421_854).unwrap(), "2026-11-23T08:17:34Z");
        assert_eq!(rfc3339(i64::MAX), None);
    }
}
