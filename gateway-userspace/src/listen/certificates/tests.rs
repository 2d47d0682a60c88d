use super::*;

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// A folder for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-certificates-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// Writes a certificate for `names`; gives its configuration.
    fn certificate(&self, file: &str, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("certificate");
        let (certificate, key_file) =
            (self.0.join(format!("{file}.pem")), self.0.join(format!("{file}.key")));
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key_file, made.signing_key.serialize_pem()).expect("written");
        Certificate { certificate, key_file, ocsp_file: None }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn exact_then_wildcard_then_first() {
    let folder = Folder::new("choice");
    let configured = [
        folder.certificate("a", &["default.test"]),
        folder.certificate("b", &["*.example.com"]),
        folder.certificate("c", &["www.example.com", "example.com"]),
    ];
    let set = Set::load(&configured, &provider(), 0).expect("loaded");
    for (name, expected) in [
        ("www.example.com", 2),
        ("WWW.Example.com", 2),
        ("example.com", 2),
        ("api.example.com", 1),
        ("a.b.example.com", 0),
        ("other.test", 0),
    ] {
        let want = CertificateDer::from_pem_file(&configured[expected].certificate).expect("certificate");
        assert_eq!(set.choose(name).cert[0], want, "{name}");
    }
    assert_eq!(set.status[1].names, ["*.example.com"]);
    assert!(set.status[0].not_after.is_some());
}

#[test]
fn a_bad_reload_keeps_the_old() {
    let folder = Folder::new("reload");
    let good = folder.certificate("good", &["a.test"]);
    let other = folder.certificate("other", &["a.test"]);
    let certificates = Certificates::load(std::slice::from_ref(&good), &provider(), 0).expect("loaded");
    let check = |certificate: PathBuf, key_file: PathBuf, expected: &str| {
        let bad = Certificate { certificate, key_file, ocsp_file: None };
        let error = certificates.reload(&[bad], &provider(), 0).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(certificates.status()[0].file.as_ref(), Some(&good.certificate));
    };
    check(folder.0.join("none.pem"), good.key_file.clone(), "No such file");
    check(good.certificate.clone(), folder.0.join("none.key"), "No such file");
    check(good.key_file.clone(), good.key_file.clone(), "there is no certificate in it");
    check(good.certificate.clone(), other.key_file.clone(), "the key is not the one of");
    certificates.reload(std::slice::from_ref(&other), &provider(), 0).expect("a good one is taken");
    assert_eq!(certificates.status()[0].file.as_ref(), Some(&other.certificate));
}

#[test]
fn without_any_there_is_a_self_signed_one() {
    let certificates = Certificates::load(&[], &provider(), 0).expect("made");
    assert_eq!(certificates.status()[0].names, ["localhost"]);
}
