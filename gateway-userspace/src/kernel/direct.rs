//! Maps that the programs reach without a look-up: arrays of one element, whose address is written into the programs.
//!
//! The kernel puts the address of such a map's element where an instruction names the map as a value
//! (`BPF_PSEUDO_MAP_VALUE`, Linux 5.2). Compilers write such instructions for sections of data only, and aya fills those anew at
//! every load, adopted or not. So the maps are made here, and the object's instructions are rewritten before aya sees them.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use object::{
    LittleEndian, SymbolIndex, elf,
    read::{
        self,
        elf::{FileHeader as _, SectionHeader as _},
    },
};

use super::{error::KernelError, sys};

/// The maps, all with one element.
pub const DIRECT: [&str; 12] = [
    "CONTROL",
    "MARKS4",
    "NEAR4",
    "COARSE4",
    "KNOWN",
    "GATE",
    "MARKS6",
    "HOST_MARKS",
    "GUARD",
    "LIMITS",
    "PORTS",
    "FEED_MARKS6",
];

/// Such maps, by name.
pub type Maps = Vec<(&'static str, OwnedFd)>;

/// Opens the maps pinned in a folder, or makes and pins them there. `size`: bytes of a map.
///
/// # Errors
/// When one can be neither opened nor made.
pub fn open(folder: &Path, size: impl Fn(&str) -> u32) -> Result<Maps, KernelError> {
    let open = |name: &'static str| {
        let pin = folder.join(name);
        let map = if pin.exists() { sys::open_pin(&pin) } else { make(name, size(name), &pin) };
        map.map(|map| (name, map))
            .map_err(|error| KernelError::from_io(format!("making the BPF map {name}"), error))
    };
    DIRECT.into_iter().map(open).collect()
}

fn make(name: &str, bytes: u32, pin: &Path) -> std::io::Result<OwnedFd> {
    let map = sys::create_element(name, bytes)?;
    sys::pin(std::os::fd::AsFd::as_fd(&map), pin)?;
    Ok(map)
}

/// The object as aya is to load it: each reference to one of `maps` is to its element's address.
///
/// # Errors
/// For what is not an object of these programs.
pub fn resolve(object: &mut [u8], maps: &[(&str, OwnedFd)]) -> Result<(), KernelError> {
    let fd =
        |name: &[u8]| maps.iter().find(|(map, _)| map.as_bytes() == name).map(|(_, map)| map.as_raw_fd());
    rewrite(object, fd).map_err(|broken| KernelError::Load {
        message: format!("the object of the XDP programs is broken ({broken}); build it again"),
    })
}

/// The object in a file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, KernelError> {
    fs::read(path).map_err(|error| KernelError::from_io(format!("reading {}", path.display()), error))
}

/// Why an object is not one of these programs.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Elf(#[from] read::Error),
    #[error("it is for machine {0}, not for BPF")]
    Machine(u16),
    #[error("a map is used at {0:#x} where no instruction loads an address")]
    NoLoad(u64),
}

/// A file for BPF: ELF-64, little-endian.
type File = elf::FileHeader64<LittleEndian>;

/// A relocation that belongs to no instruction.
const NOWHERE: u64 = u64::MAX - 7;
/// `r = imm64`, of two slots of eight bytes.
const LOAD: u8 = 0x18;
const LOAD_BYTES: usize = 16;
/// Source register of a load that names an element: the map in the first slot, the offset in the second.
const MAP_VALUE: u8 = 2;

/// A load of a map's address: where in the object it and its relocation begin, and the map's descriptor.
struct Reference {
    load: usize,
    relocation: usize,
    map: i32,
}

/// The loads of the maps that `fd` knows by name.
fn references(object: &[u8], fd: impl Fn(&[u8]) -> Option<i32>) -> Result<Vec<Reference>, Broken> {
    let file = File::parse(object)?;
    let endian = file.endian()?;
    match file.e_machine(endian) {
        elf::EM_BPF => {}
        other => return Err(Broken::Machine(other)),
    }
    let sections = file.sections(endian, object)?;
    let mut found = Vec::new();
    for section in sections.iter() {
        let Some((relocations, symbols)) = section.rel(endian, object)? else { continue };
        let code = sections.section(section.info_link(endian))?;
        if code.sh_flags(endian) & u64::from(elf::SHF_EXECINSTR) == 0 {
            continue;
        }
        let instructions = code.data(endian, object)?;
        let symbols = sections.symbol_table_by_index(endian, object, symbols)?;
        let mut place = section.sh_offset(endian) as usize;
        for relocation in relocations {
            let symbol = symbols.symbol(SymbolIndex(relocation.r_sym(endian) as usize))?;
            if let Some(map) = fd(symbols.symbol_name(endian, symbol)?) {
                let at = relocation.r_offset.get(endian);
                let load = instructions.get(at as usize..).and_then(|rest| rest.get(..LOAD_BYTES));
                // A load that names a map already has a source register.
                if load.is_none_or(|load| load[0] != LOAD || load[1] >> 4 != 0) {
                    return Err(Broken::NoLoad(at));
                }
                let load = code.sh_offset(endian) as usize + at as usize;
                found.push(Reference { load, relocation: place, map });
            }
            place += size_of_val(relocation);
        }
    }
    Ok(found)
}

/// Rewrites the loads of the maps that `fd` knows to their elements' addresses, and takes their relocations out. What is refused is
/// left as it was.
fn rewrite(object: &mut [u8], fd: impl Fn(&[u8]) -> Option<i32>) -> Result<(), Broken> {
    for Reference { load, relocation, map } in references(object, fd)? {
        // Both were read there.
        let load = &mut object[load..load + LOAD_BYTES];
        load[1] |= MAP_VALUE << 4;
        load.copy_within(4..8, 12);
        load[4..8].copy_from_slice(&map.to_le_bytes());
        object[relocation..relocation + 8].copy_from_slice(&NOWHERE.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The object, and where things lie in it.
    fn whole() -> Vec<u8> {
        super::super::load::OBJECT.to_vec()
    }

    fn marks(name: &[u8]) -> Option<i32> {
        (name == b"MARKS4").then_some(0x0102_0304)
    }

    fn refused(object: &[u8]) -> Option<String> {
        let mut copy = object.to_vec();
        let refused = rewrite(&mut copy, marks).err()?;
        assert_eq!(copy, object, "what is refused is left as it was");
        Some(refused.to_string())
    }

    /// Where the headers of the section of relocations that names a map first, and of its symbols, stand; and its first entry.
    fn places(object: &[u8]) -> (usize, usize, usize) {
        let file = File::parse(object).unwrap();
        let sections = file.sections(LittleEndian, object).unwrap();
        let first = references(object, marks).unwrap().remove(0).relocation;
        let header = |section: read::SectionIndex| {
            file.e_shoff(LittleEndian) as usize + section.0 * size_of::<elf::SectionHeader64<LittleEndian>>()
        };
        let (number, section) = sections
            .enumerate()
            .find(|(_, section)| {
                let (start, size) = section.file_range(LittleEndian).unwrap_or_default();
                section.sh_type(LittleEndian) == elf::SHT_REL
                    && (start..start + size).contains(&(first as u64))
            })
            .unwrap();
        (header(number), header(section.link(LittleEndian)), first)
    }

    #[test]
    fn an_object_cut_short_anywhere_is_refused() {
        let whole = whole();
        let mut copy = whole.clone();
        assert!(rewrite(&mut copy, |_| None).is_ok());
        assert_eq!(copy, whole, "nothing to rewrite");
        for length in (0..whole.len()).step_by(whole.len() / 97).chain([whole.len() - 1]) {
            assert!(refused(&whole[..length]).is_some(), "{length}");
        }
    }

    #[test]
    fn a_damaged_object_is_refused_and_says_why() {
        let whole = whole();
        let (relocations, symbols, entry) = places(&whole);
        // What it is of, where, the bytes there, and a part of what is said.
        let rows: [(&str, usize, &[u8], &str); 14] = [
            ("magic", 0, b"\x7fELG", "header"),
            ("class 32", 4, &[elf::ELFCLASS32], "header"),
            ("no class", 4, &[0], "header"),
            ("big-endian", 5, &[elf::ELFDATA2MSB], "endian"),
            ("another machine", 18, &elf::EM_X86_64.to_le_bytes(), "machine 62"),
            ("section headers far away", 40, &u64::MAX.to_le_bytes(), "section header"),
            ("section headers of another size", 58, &[63, 0], "section header entry size"),
            ("relocations far away", relocations + 24, &[0xf8; 8], "relocation section"),
            ("relocations without symbols", relocations + 40, &[0xff; 4], "section index"),
            ("relocations of what is no symbols", relocations + 40, &[1, 0, 0, 0], "symbol table"),
            ("relocations of no section", relocations + 44, &[0xff; 4], "section index"),
            ("names far away", symbols + 40, &[0xff; 4], "section index"),
            ("a relocation beyond its section", entry, &[0xff; 8], "0xffffffffffffffff"),
            ("a relocation without a symbol", entry + 12, &[0xff; 4], "symbol index"),
        ];
        for (what, at, bytes, said) in rows {
            let mut object = whole.clone();
            object[at..at + bytes.len()].copy_from_slice(bytes);
            let refused = refused(&object);
            assert!(refused.as_ref().is_some_and(|sentence| sentence.contains(said)), "{what}: {refused:?}");
        }
    }

    #[test]
    fn any_damage_is_survived() {
        let whole = whole();
        let (relocations, symbols, entry) = places(&whole);
        let mut object = whole.clone();
        let headers = (0..64).chain(relocations..relocations + 64).chain(symbols..symbols + 64);
        for at in headers.chain(entry..entry + 16) {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                object[at] = byte;
                // Whether it is taken depends on the byte; every place that is named is in the object.
                for found in references(&object, marks).unwrap_or_default() {
                    assert!(found.load + LOAD_BYTES <= object.len() && found.relocation + 16 <= object.len());
                }
            }
            object[at] = whole[at];
        }
        assert_eq!(object, whole);
    }

    #[test]
    fn every_reference_becomes_one_to_the_element_and_loses_its_relocation() {
        let whole = whole();
        for map in DIRECT {
            let mut copy = whole.clone();
            let fd = |name: &[u8]| (name == map.as_bytes()).then_some(0x0102_0304);
            assert!(rewrite(&mut copy, fd).is_ok());
            let changed = copy.chunks(8).zip(whole.chunks(8)).filter(|(new, old)| new != old);
            let (gone, loads): (Vec<_>, Vec<_>) =
                changed.map(|(new, _)| new).partition(|new| *new == NOWHERE.to_le_bytes());
            assert!(!gone.is_empty(), "{map} is used");
            assert_eq!(gone.len(), loads.len(), "{map}");
            for load in loads {
                assert_eq!(
                    (load[0], load[1] >> 4, &load[4..]),
                    (LOAD, MAP_VALUE, &[4, 3, 2, 1][..]),
                    "{map}"
                );
            }
            let again = copy.clone();
            assert!(
                matches!(rewrite(&mut copy, fd), Err(Broken::NoLoad(NOWHERE))),
                "{map}: nothing is there"
            );
            assert_eq!(copy, again);
        }
    }
}
