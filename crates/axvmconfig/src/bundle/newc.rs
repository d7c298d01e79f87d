//! The `newc` format of cpio: headers of hexadecimal digits, parts padded to four bytes.

use super::Problem;

/// What every header begins with.
const MAGIC: &[u8] = b"070701";

/// How many digits a field of a header has.
const FIELD_LEN: usize = 8;

/// How many fields a header has.
const FIELDS: usize = 13;

/// The size of a header in bytes.
pub(super) const HEADER_LEN: usize = MAGIC.len() + FIELDS * FIELD_LEN;

/// The name of the entry that ends an archive.
pub(super) const TRAILER: &str = "TRAILER!!!";

/// Names with their header, and data, are padded to a multiple of this.
const ALIGN: usize = 4;

/// The places among the fields of those that have a meaning here.
mod field {
    pub(super) const INODE: usize = 0;
    pub(super) const MODE: usize = 1;
    pub(super) const LINKS: usize = 4;
    pub(super) const DATA_LEN: usize = 6;
    pub(super) const NAME_LEN: usize = 11;
}

/// The bits of a mode that say what kind of file it is.
const MODE_KIND: u32 = 0o170_000;
/// A file.
const MODE_REGULAR: u32 = 0o100_000;
/// Everyone may read it.
const MODE_READABLE: u32 = 0o444;

/// What kind of file an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// One with bytes.
    Regular,
    /// A directory, a link, a device.
    Other,
}

/// What a header says that has a meaning here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// A number of its own, so that entries are not taken for links to one another.
    pub(super) inode: u32,
    pub(super) kind: FileKind,
    /// The size of the name in bytes, with the NUL (or more than one) at its end.
    pub(super) name_len: usize,
    /// The size of the data in bytes.
    pub(super) data_len: usize,
}

impl Header {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Problem> {
        let digits = bytes.strip_prefix(MAGIC).ok_or(Problem::Magic)?;
        let mut fields = [0; FIELDS];
        for (field, digits) in fields.iter_mut().zip(digits.chunks_exact(FIELD_LEN)) {
            *field = number(digits).ok_or(Problem::Field)?;
        }
        let mode = fields[field::MODE];
        Ok(Self {
            inode: fields[field::INODE],
            kind: if mode & MODE_KIND == MODE_REGULAR {
                FileKind::Regular
            } else {
                FileKind::Other
            },
            name_len: fields[field::NAME_LEN] as usize,
            data_len: fields[field::DATA_LEN] as usize,
        })
    }

    /// The header, always the same for the same values: no times, no owners. `None` where a size does not
    /// fit its field.
    pub(super) fn encode(&self) -> Option<[u8; HEADER_LEN]> {
        let mut fields = [0; FIELDS];
        fields[field::INODE] = self.inode;
        fields[field::MODE] = match self.kind {
            FileKind::Regular => MODE_REGULAR | MODE_READABLE,
            FileKind::Other => 0,
        };
        fields[field::LINKS] = 1;
        fields[field::NAME_LEN] = u32::try_from(self.name_len).ok()?;
        fields[field::DATA_LEN] = u32::try_from(self.data_len).ok()?;

        let mut bytes = [0; HEADER_LEN];
        let (magic, digits) = bytes.split_at_mut(MAGIC.len());
        magic.copy_from_slice(MAGIC);
        for (digits, field) in digits.chunks_exact_mut(FIELD_LEN).zip(fields) {
            for (place, digit) in digits.iter_mut().rev().enumerate() {
                *digit = b"0123456789abcdef"[(field >> (4 * place) & 0xf) as usize];
            }
        }
        Some(bytes)
    }
}

/// The value of hexadecimal digits, as many as fit 32 bits.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, &digit| {
        Some(number << 4 | char::from(digit).to_digit(16)?)
    })
}

/// The text of a name, up to the NUL that must be at its end.
pub(super) fn name(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(bytes.get(..end)?).ok()
}

/// How many bytes are between `offset` and the next multiple of the alignment.
pub(super) const fn padding(offset: usize) -> usize {
    offset.next_multiple_of(ALIGN) - offset
}
