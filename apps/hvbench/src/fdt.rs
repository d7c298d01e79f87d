//! Adds to a VM's device tree what firmware needs that boots the same machine without hypervisor: QEMU's `virt` has these devices, a VM has not.
//!
//! Devicetree Specification 0.4, chapter 5: a header of big-endian words, a block of the structure and one of the strings that name properties.

/// Words of the header: by their index.
const TOTAL_SIZE: usize = 1;
const STRUCTURE: usize = 2;
const STRINGS: usize = 3;
const STRINGS_SIZE: usize = 8;
const STRUCTURE_SIZE: usize = 9;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;

/// Of the hart's interrupt controller, in trees that AxHV makes.
const HART_CONTROLLER: u32 = 1;
/// Of the node that is added for power-off, and of no other.
const TEST_DEVICE: u32 = 0x7e57;

/// The tree with a CLINT, which gives machine mode its timer and IPIs, and the device that switches `virt` off. None if it is no tree.
pub(crate) fn for_firmware(tree: &[u8]) -> Option<Vec<u8>> {
    let structure = block(tree, STRUCTURE, STRUCTURE_SIZE)?;
    let mut names = block(tree, STRINGS, STRINGS_SIZE)?.to_vec();
    let mut added = Vec::new();
    let mut node = Node {
        structure: &mut added,
        names: &mut names,
    };
    node.begin("clint@2000000");
    node.text("compatible", &["sifive,clint0", "riscv,clint0"]);
    node.cells("reg", &[0, 0x200_0000, 0, 0x1_0000]);
    // Software and timer interrupt of machine mode.
    node.cells(
        "interrupts-extended",
        &[HART_CONTROLLER, 3, HART_CONTROLLER, 7],
    );
    node.end();
    node.begin("test@100000");
    node.text("compatible", &["sifive,test1", "sifive,test0", "syscon"]);
    node.cells("reg", &[0, 0x10_0000, 0, 0x1000]);
    node.cells("phandle", &[TEST_DEVICE]);
    node.end();
    node.begin("poweroff");
    node.text("compatible", &["syscon-poweroff"]);
    node.cells("regmap", &[TEST_DEVICE]);
    node.cells("offset", &[0]);
    node.cells("value", &[0x5555]);
    node.end();

    // The root node is the last to end.
    let tail = [END_NODE.to_be_bytes(), END.to_be_bytes()].concat();
    let inside = structure.strip_suffix(tail.as_slice())?;
    assemble(tree, &[inside, &added, &tail].concat(), &names)
}

/// One of the two blocks.
fn block(tree: &[u8], start: usize, size: usize) -> Option<&[u8]> {
    let start = word(tree, start)? as usize;
    let size = word(tree, size)? as usize;
    tree.get(start..start.checked_add(size)?)
}

fn word(tree: &[u8], index: usize) -> Option<u32> {
    let bytes = tree.get(4 * index..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// A tree with other blocks; what stands before them, reservations of memory, stays.
fn assemble(tree: &[u8], structure: &[u8], names: &[u8]) -> Option<Vec<u8>> {
    let start = word(tree, STRUCTURE)? as usize;
    let mut new = tree.get(..start)?.to_vec();
    new.extend_from_slice(structure);
    let strings = new.len();
    new.extend_from_slice(names);
    let total = new.len();
    for (index, value) in [
        (TOTAL_SIZE, total),
        (STRINGS, strings),
        (STRINGS_SIZE, names.len()),
        (STRUCTURE_SIZE, structure.len()),
    ] {
        let value = u32::try_from(value).ok()?;
        new.get_mut(4 * index..)?
            .first_chunk_mut()
            .map(|bytes: &mut [u8; 4]| *bytes = value.to_be_bytes())?;
    }
    Some(new)
}

/// Writes nodes.
struct Node<'a> {
    structure: &'a mut Vec<u8>,
    names: &'a mut Vec<u8>,
}

impl Node<'_> {
    fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.bytes(&[name.as_bytes(), &[0]].concat());
    }

    fn end(&mut self) {
        self.word(END_NODE);
    }

    fn text(&mut self, name: &str, values: &[&str]) {
        let value: Vec<u8> = values
            .iter()
            .flat_map(|value| [value.as_bytes(), &[0]].concat())
            .collect();
        self.property(name, &value);
    }

    fn cells(&mut self, name: &str, values: &[u32]) {
        let value: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_be_bytes())
            .collect();
        self.property(name, &value);
    }

    fn property(&mut self, name: &str, value: &[u8]) {
        let name_at = self.names.len();
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        self.word(PROPERTY);
        // A tree has less than 4 GiB.
        self.word(value.len() as u32);
        self.word(name_at as u32);
        self.bytes(value);
    }

    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    /// Filled up to whole words.
    fn bytes(&mut self, bytes: &[u8]) {
        self.structure.extend_from_slice(bytes);
        let filled = self.structure.len().next_multiple_of(4);
        self.structure.resize(filled, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::for_firmware;

    /// A root with one property.
    fn tree() -> Vec<u8> {
        let structure: Vec<u32> = vec![1, 0, 3, 4, 0, 0x1234_5678, 2, 9];
        let names = b"model\0";
        let (start, size) = (40 + 16, 4 * structure.len() as u32);
        let header = [
            0xd00d_feed,
            start + size + 6,
            start,
            start + size,
            40,
            17,
            16,
            0,
            6,
            size,
        ];
        let words = header.into_iter().chain([0; 4]).chain(structure);
        let mut tree: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
        tree.extend_from_slice(names);
        tree
    }

    #[test]
    fn the_nodes_are_added_to_the_root() {
        let tree = for_firmware(&tree()).unwrap();
        let tree = fdt::Fdt::new(&tree).unwrap();
        let root = tree.find_node("/").unwrap();
        assert_eq!(
            root.property("model").unwrap().value,
            [0x12, 0x34, 0x56, 0x78]
        );
        let names: Vec<_> = root.children().map(|node| node.name).collect();
        assert_eq!(names, ["clint@2000000", "test@100000", "poweroff"]);
        let test = tree.find_node("/test@100000").unwrap();
        let power_off = tree.find_node("/poweroff").unwrap();
        assert_eq!(
            test.property("phandle").unwrap().value,
            power_off.property("regmap").unwrap().value
        );
        let clint = tree.find_compatible(&["sifive,clint0"]).unwrap();
        assert_eq!(
            clint.property("interrupts-extended").unwrap().value.len(),
            16
        );
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let whole = tree();
        assert!(for_firmware(&[]).is_none());
        for len in 0..whole.len() {
            assert!(for_firmware(&whole[..len]).is_none(), "{len}");
        }
        let mut open = whole;
        let end = open.len() - 10;
        open[end..end + 4].fill(0);
        assert!(for_firmware(&open).is_none());
    }
}
