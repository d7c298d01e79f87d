//! Sizes as people write them: `256MiB`.

use core::fmt;

/// The units, largest first, with their size as a power of two.
const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// It is not a whole number and a unit.
    Malformed,
    /// It does not fit 64 bits.
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => {
                "a size is a whole number with KiB, MiB, GiB or TiB, like \"256MiB\", or an integer \
                 of bytes without quotes"
            }
            Self::TooLarge => "the size must fit 64 bits",
        })
    }
}

impl core::error::Error for SizeError {}

/// The bytes of a size like `256MiB`: a whole number, directly followed by `KiB`, `MiB`, `GiB` or `TiB`.
///
/// # Errors
/// Other text, and sizes that do not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (digits, shift) = UNITS
        .iter()
        .find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .ok_or(SizeError::Malformed)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SizeError::Malformed);
    }
    // All digits: what goes wrong now is the number being too large.
    let count: u64 = digits.parse().map_err(|_| SizeError::TooLarge)?;
    count.checked_mul(1 << shift).ok_or(SizeError::TooLarge)
}

/// A number of bytes that displays as [`parse_size`] reads it, in the largest unit that leaves no rest;
/// as plain bytes where none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        match UNITS
            .iter()
            .find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift)
        {
            Some((unit, shift)) => write!(f, "{}{unit}", bytes >> shift),
            None => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Size, SizeError, parse_size};

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("0KiB"), Ok(0));
        assert_eq!(parse_size("4KiB"), Ok(0x1000));
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("16777215TiB"), Ok(16_777_215 << 40));
        assert_eq!(parse_size("16777216TiB"), Err(SizeError::TooLarge));
        assert_eq!(
            parse_size("99999999999999999999KiB"),
            Err(SizeError::TooLarge)
        );
        for text in [
            "", "MiB", "1", "1M", "1MB", "1mib", "1 MiB", " 1MiB", "1MiB ", "+1MiB", "-1MiB",
            "1.5GiB", "0x1MiB", "1_0MiB",
        ] {
            assert_eq!(parse_size(text), Err(SizeError::Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(count in 1u64..1 << 24, shift in prop::sample::select(vec![10, 20, 30, 40])) {
            let bytes = count << shift;
            prop_assert_eq!(parse_size(&Size(bytes).to_string()), Ok(bytes));
        }

        #[test]
        fn any_text_is_decided(text in "\\PC*") {
            let _ = parse_size(&text);
        }
    }
}
