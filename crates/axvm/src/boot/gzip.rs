//! gzip, unpacked piece by piece.
//!
//! [`Gunzip`] inflates one member (RFC 1952) through a 32 KiB window, which is all it ever
//! allocates: what the file says about its own size is only compared at the end, with its checksum.
//! It is the kernel loader's ([`super::kernel`]) source for compressed images.

use alloc::{boxed::Box, vec};
use core::fmt;

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress},
};

/// The first two bytes of every gzip file.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The only method there is.
const METHOD_DEFLATE: u8 = 8;
/// Bytes of the fixed part of the header.
const HEADER_LEN: usize = 10;
/// CRC32 and ISIZE.
const TRAILER_LEN: usize = 8;

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0b1110_0000;

/// Why a gzip file cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GzipError {
    /// The header breaks the format's rules.
    BadHeader,
    /// The file ends before its data does.
    Truncated,
    /// The compressed data breaks the format's rules.
    Corrupt,
    /// The unpacked data does not have the checksum or the length that the file gives.
    BadChecksum,
    /// Something other than padding follows the data.
    TrailingBytes,
}

impl fmt::Display for GzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadHeader => "bad gzip header",
            Self::Truncated => "gzip data is truncated",
            Self::Corrupt => "gzip data is corrupt",
            Self::BadChecksum => "unpacked gzip data has the wrong checksum or length",
            Self::TrailingBytes => "bytes follow the gzip data",
        })
    }
}

/// Whether `file` is a gzip file.
pub(crate) fn is_gzip(file: &[u8]) -> bool {
    file.starts_with(&MAGIC)
}

/// What the last four bytes claim: the unpacked length modulo 2^32. Good for a message, not for a
/// decision.
pub(crate) fn claimed_len(file: &[u8]) -> Option<u32> {
    file.last_chunk().copied().map(u32::from_le_bytes)
}

/// One gzip file being unpacked.
pub(crate) struct Gunzip<'a> {
    /// What is not consumed yet.
    input: &'a [u8],
    inflate: Box<DecompressorOxide>,
    /// The last 32 KiB of output: inflate's dictionary, and the piece handed out last.
    window: Box<[u8]>,
    crc: Crc32,
    /// Bytes unpacked, modulo 2^32 as in the trailer.
    len: u32,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Ahead,
    Reached,
}

impl<'a> Gunzip<'a> {
    /// Begins with `file`, whose header is checked now.
    pub(crate) fn new(file: &'a [u8]) -> Result<Self, GzipError> {
        Ok(Self {
            input: skip_header(file)?,
            inflate: Box::default(),
            window: vec![0; TINFL_LZ_DICT_SIZE].into_boxed_slice(),
            crc: Crc32::new(),
            len: 0,
            end: End::Ahead,
        })
    }

    /// The next piece; all but the last are 32 KiB. `None` at the end, once the checksum was found
    /// right.
    pub(crate) fn next_piece(&mut self) -> Result<Option<&[u8]>, GzipError> {
        if self.end == End::Reached {
            return Ok(None);
        }
        // The output wraps round in the window, so each call begins at 0 with the window as it was
        // left.
        let (status, read, written) =
            decompress(&mut self.inflate, self.input, &mut self.window, 0, 0);
        self.input = self.input.get(read..).ok_or(GzipError::Corrupt)?;
        let piece = self.window.get(..written).ok_or(GzipError::Corrupt)?;
        self.crc.update(piece);
        self.len = self.len.wrapping_add(written as u32);
        match status {
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::Done => {
                check_trailer(self.input, self.crc.finish(), self.len)?;
                self.end = End::Reached;
            }
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => {
                return Err(GzipError::Truncated);
            }
            TINFLStatus::BadParam | TINFLStatus::Adler32Mismatch | TINFLStatus::Failed => {
                return Err(GzipError::Corrupt);
            }
        }
        Ok(Some(piece))
    }
}

/// What follows the header (RFC 1952, 2.3).
fn skip_header(file: &[u8]) -> Result<&[u8], GzipError> {
    let (header, mut rest) = file
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(GzipError::Truncated)?;
    let [id1, id2, method, flags, ..] = *header;
    if [id1, id2] != MAGIC || method != METHOD_DEFLATE || flags & FLAGS_RESERVED != 0 {
        return Err(GzipError::BadHeader);
    }
    if flags & FLAG_EXTRA != 0 {
        let (len, after) = rest.split_first_chunk::<2>().ok_or(GzipError::Truncated)?;
        rest = after
            .get(usize::from(u16::from_le_bytes(*len))..)
            .ok_or(GzipError::Truncated)?;
    }
    for text in [FLAG_NAME, FLAG_COMMENT] {
        if flags & text != 0 {
            let end = rest
                .iter()
                .position(|&byte| byte == 0)
                .ok_or(GzipError::Truncated)?;
            rest = rest.get(end + 1..).ok_or(GzipError::Truncated)?;
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        rest = rest.get(2..).ok_or(GzipError::Truncated)?;
    }
    Ok(rest)
}

/// Checks what follows the compressed data against what was unpacked. Zeros may follow: media and
/// archives pad.
fn check_trailer(rest: &[u8], crc: u32, len: u32) -> Result<(), GzipError> {
    let (trailer, after) = rest
        .split_first_chunk::<TRAILER_LEN>()
        .ok_or(GzipError::Truncated)?;
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
    if u32::from_le_bytes([c0, c1, c2, c3]) != crc || u32::from_le_bytes([l0, l1, l2, l3]) != len {
        return Err(GzipError::BadChecksum);
    }
    if after.iter().any(|&byte| byte != 0) {
        return Err(GzipError::TrailingBytes);
    }
    Ok(())
}

/// The CRC-32 of RFC 1952, section 8: polynomial 0xedb88320, bits reflected.
struct Crc32(u32);

/// What one byte does to the checksum.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

impl Crc32 {
    const fn new() -> Self {
        Self(!0)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |crc, &byte| {
            // The index is one byte: always in the table.
            CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8
        });
    }

    const fn finish(&self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::boot::testing::gzip;

    fn unpack(file: &[u8]) -> Result<Vec<u8>, GzipError> {
        let mut gunzip = Gunzip::new(file)?;
        let mut out = Vec::new();
        while let Some(piece) = gunzip.next_piece()? {
            out.extend_from_slice(piece);
        }
        assert_eq!(gunzip.next_piece(), Ok(None), "the end stays the end");
        Ok(out)
    }

    /// Bytes that compress somewhat, so that matches reach back over the edge of the window.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        (0..len)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 7 < 4 {
                    (at / 1000) as u8
                } else {
                    (state >> 28) as u8
                }
            })
            .collect()
    }

    #[test]
    fn crc_of_the_standard_check_string() {
        let mut crc = Crc32::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.finish(), 0xcbf4_3926);
    }

    #[test]
    fn unpacks_what_was_packed() {
        for len in [0, 1, 100, 32_767, 32_768, 32_769, 100_000, 1_000_000] {
            let data = sample(len);
            assert_eq!(unpack(&gzip(&data)), Ok(data), "{len} bytes");
        }
    }

    #[test]
    fn optional_header_fields_are_skipped() {
        let data = b"hello";
        let packed = gzip(data);
        let mut file = packed[..HEADER_LEN].to_vec();
        file[3] = FLAG_EXTRA | FLAG_NAME | FLAG_COMMENT | FLAG_HEADER_CRC;
        file.extend_from_slice(&[3, 0, 1, 2, 3]);
        file.extend_from_slice(b"name\0comment\0\xaa\xbb");
        file.extend_from_slice(&packed[HEADER_LEN..]);
        assert_eq!(unpack(&file), Ok(data.to_vec()));
        for len in HEADER_LEN..file.len() {
            assert_eq!(
                unpack(&file[..len]),
                Err(GzipError::Truncated),
                "first {len} bytes"
            );
        }
    }

    #[test]
    fn truncation_at_every_byte_is_told() {
        let file = gzip(&sample(2000));
        for len in 0..file.len() {
            assert_eq!(
                unpack(&file[..len]),
                Err(GzipError::Truncated),
                "first {len} bytes"
            );
        }
    }

    #[test]
    fn padding_may_follow_and_nothing_else() {
        let mut file = gzip(b"hello");
        file.extend_from_slice(&[0; 100]);
        assert_eq!(unpack(&file), Ok(b"hello".to_vec()));
        file.push(1);
        assert_eq!(unpack(&file), Err(GzipError::TrailingBytes));
    }

    #[test]
    fn wrong_checksum_and_wrong_length_are_told() {
        let good = gzip(b"hello");
        for from_end in 1..=TRAILER_LEN {
            let mut file = good.clone();
            let at = file.len() - from_end;
            file[at] ^= 0x10;
            assert_eq!(
                unpack(&file),
                Err(GzipError::BadChecksum),
                "{from_end} from the end"
            );
        }
    }

    #[test]
    fn bad_headers_are_told() {
        for (at, value) in [(0, 0), (1, 0), (2, 7), (3, 0x80)] {
            let mut file = gzip(b"hello");
            file[at] = value;
            assert_eq!(unpack(&file), Err(GzipError::BadHeader), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_data_round_trips(data in prop::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(unpack(&gzip(&data)), Ok(data));
        }

        #[test]
        fn a_flipped_bit_after_the_header_is_never_taken_for_good(
            at in HEADER_LEN..500usize, bit in 0..8u32,
        ) {
            let data = sample(3000);
            let mut file = gzip(&data);
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << bit;
                // Only bits that mean nothing, such as padding between blocks, may differ.
                prop_assert!(unpack(&file).map_or(true, |unpacked| unpacked == data));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut file = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0].to_vec();
            file.extend_from_slice(&tail);
            let _ = unpack(&file);
        }
    }
}
