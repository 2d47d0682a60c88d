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
    let broken =
        || KernelError::Load { message: "the object of the XDP programs is broken; build it again".into() };
    rewrite(object, |name| maps.iter().find(|(map, _)| *map == name).map(|(_, fd)| fd.as_raw_fd()))
        .ok_or_else(broken)
}

/// The object in a file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, KernelError> {
    fs::read(path).map_err(|error| KernelError::from_io(format!("reading {}", path.display()), error))
}

/// A relocation that belongs to no instruction.
const NOWHERE: u64 = u64::MAX - 7;
/// `r = imm64`, of two slots.
const LOAD: u8 = 0x18;
/// Source register of a load that names an element: the map in the first slot, the offset in the second.
const MAP_VALUE: u8 = 2;
const SECTION: usize = 64;
const RELOCATIONS: u32 = 9;
const EXECUTABLE: u64 = 4;

/// A section of the object (ELF-64, little-endian).
struct Section {
    kind: u32,
    flags: u64,
    start: usize,
    size: usize,
    link: usize,
    info: usize,
}

fn section(object: &[u8], number: usize) -> Option<Section> {
    let at = word(object, 40)? as usize + number * SECTION;
    Some(Section {
        kind: half(object, at + 4)?,
        flags: word(object, at + 8)?,
        start: word(object, at + 24)? as usize,
        size: word(object, at + 32)? as usize,
        link: half(object, at + 40)? as usize,
        info: half(object, at + 44)? as usize,
    })
}

fn word(object: &[u8], at: usize) -> Option<u64> {
    object.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn half(object: &[u8], at: usize) -> Option<u32> {
    object.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn name(object: &[u8], at: usize) -> Option<&str> {
    let rest = object.get(at..)?;
    std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == 0)?]).ok()
}

/// Rewrites the instructions that load the address of a map that `fd` knows, and takes their relocations out. `None` for an object
/// that is not what it should be.
fn rewrite(object: &mut [u8], fd: impl Fn(&str) -> Option<i32>) -> Option<()> {
    let sections = usize::from(u16::from_le_bytes(*object.get(60..)?.first_chunk()?));
    for number in 0..sections {
        let relocations = section(object, number)?;
        if relocations.kind != RELOCATIONS {
            continue;
        }
        let code = section(object, relocations.info)?;
        if code.flags & EXECUTABLE == 0 {
            continue;
        }
        let symbols = section(object, relocations.link)?;
        let names = section(object, symbols.link)?;
        for entry in (relocations.start..relocations.start.checked_add(relocations.size)?).step_by(16) {
            let symbol = (word(object, entry + 8)? >> 32) as usize;
            let symbol_name = half(object, symbols.start + symbol * 24)? as usize;
            let Some(map) = fd(name(object, names.start + symbol_name)?) else { continue };
            let at = code.start.checked_add(word(object, entry)? as usize)?;
            let instruction: &mut [u8; 16] = object.get_mut(at..)?.first_chunk_mut()?;
            if instruction[0] != LOAD {
                return None;
            }
            instruction[1] = instruction[1] & 15 | MAP_VALUE << 4;
            let offset: [u8; 4] = *instruction[4..].first_chunk()?;
            instruction[4..8].copy_from_slice(&map.to_le_bytes());
            instruction[12..16].copy_from_slice(&offset);
            object.get_mut(entry..)?.get_mut(..8)?.copy_from_slice(&NOWHERE.to_le_bytes());
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_cut_short_anywhere_is_refused_and_never_panics() {
        let whole = super::super::load::OBJECT;
        let mut copy = whole.to_vec();
        let mut asked = 0;
        assert_eq!(rewrite(&mut copy, |_| None), Some(()));
        assert_eq!(copy, whole, "nothing to rewrite");
        for length in (0..whole.len()).step_by(whole.len() / 97) {
            assert_eq!(rewrite(&mut whole[..length].to_vec(), |_| Some(7)), None, "{length}");
            asked += 1;
        }
        assert!(asked >= 97);
    }

    #[test]
    fn every_reference_becomes_one_to_the_element_and_loses_its_relocation() {
        let whole = super::super::load::OBJECT;
        for map in DIRECT {
            let mut copy = whole.to_vec();
            assert_eq!(rewrite(&mut copy, |name| (name == map).then_some(0x0102_0304)), Some(()));
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
            assert_eq!(
                rewrite(&mut copy, |name| (name == map).then_some(1)),
                None,
                "{map}: nothing is there"
            );
            assert_eq!(copy, again);
        }
    }
}
