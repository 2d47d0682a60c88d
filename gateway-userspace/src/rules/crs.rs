//! A Core Rule Set by its folder: a release, a clone, or what Debian's modsecurity-crs installs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// ModSecurity's recommended settings, which CRS expects to stand before it.
const ENGINE: &str = include_str!("../../../config/rules/engine.conf");
/// Where Debian's package has what an administrator may change.
const DEBIAN_SETTINGS: &str = "/etc/modsecurity/crs";
/// The file before which the routes' levels are set.
pub(super) const INITIALISATION: &str = "REQUEST-901-INITIALIZATION.conf";

/// The directives that load what lies in `folder`, for [`super::load`]. What CRS expects before it is put there where the
/// folder is the first entry: what stands before it otherwise is an administrator's own, and has the same rule ids.
pub(super) fn directives(folder: &Path, is_first: bool) -> String {
    let rules = folder.join("rules");
    if !rules.is_dir() {
        return include("Include", &folder.join("*.conf"));
    }
    let settings = Path::new(DEBIAN_SETTINGS);
    let candidates = [
        folder.join("crs-setup.conf"),
        settings.join("crs-setup.conf"),
        folder.join("crs-setup.conf.example"),
    ];
    let is_debians = !candidates[0].is_file() && !candidates[2].is_file();
    let setup = candidates.iter().enumerate().find(|(n, path)| (*n != 1 || is_debians) && path.is_file());
    let mut text = if is_first { ENGINE.to_owned() } else { String::new() };
    // Without one the set says so itself: CRS refuses everything then.
    if let Some((_, setup)) = setup {
        text += &include("Include", setup);
    }
    let plugins = folder.join("plugins");
    text += &include("IncludeOptional", &plugins.join("*-config.conf"));
    text += &include("IncludeOptional", &plugins.join("*-before.conf"));
    if is_debians {
        text += &include("IncludeOptional", &settings.join("REQUEST-900-EXCLUSION-RULES-BEFORE-CRS.conf"));
    }
    text += &include("Include", &rules.join("*.conf"));
    text += &include("IncludeOptional", &plugins.join("*-after.conf"));
    if is_debians {
        text += &include("IncludeOptional", &settings.join("RESPONSE-999-EXCLUSION-RULES-AFTER-CRS.conf"));
    }
    text
}

fn include(directive: &str, path: &Path) -> String {
    let mut text = String::new();
    // A quote in a path would end the word; such a path is found as missing, with its name.
    let path = path.to_string_lossy().replace('"', "\\\"");
    let _ = writeln!(text, "{directive} \"{path}\"");
    text
}

/// The name that a folder's directives go by: includes are relative to it.
pub(super) fn name(folder: &Path) -> String {
    let path: PathBuf = folder.join("(folder)");
    path.to_string_lossy().into_owned()
}
