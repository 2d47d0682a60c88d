use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::bans::{Parts, Spared, Traits, start};
use crate::client::ClientId;
use crate::config::Config;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn folder(name: &str) -> Folder {
    let path = std::env::temp_dir().join(format!("gateway-feed-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("folder");
    Folder(path)
}

fn bans(folder: &Folder, text: &str) -> crate::config::bans::Bans {
    Config::parse(&folder.0.join("gateway.toml"), text).expect("configuration").bans
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_is_enforced_minus_the_guarded_and_a_bad_one_keeps_the_old() {
    let folder = folder("file");
    let list = folder.0.join("list.txt");
    std::fs::write(&list, "192.0.2.0/24\n198.51.100.0/24\n0.0.0.0/1\n127.0.0.1\n").expect("list");
    let config = bans(
        &folder,
        "[[bans.feeds]]\nname = \"drop\"\nfile = \"list.txt\"\naction = \"l7-deny\"\ninterval = \"10s\"",
    );
    let parts = Parts {
        spared: Spared { allow: vec!["198.51.100.7".parse().expect("network")], ..Spared::default() },
        ..Parts::default()
    };
    let handle = start(&config, parts).expect("start");
    let mut loaded = Loaded {
        feed: config.feeds[0].clone(),
        known: Known::default(),
        list: Arc::new(List { networks: Vec::new(), bad: 0 }),
        due: Instant::now(),
    };
    let client = Client::new().expect("client");
    assert_eq!(refresh(&mut loaded, &client).await, Ok(true));
    assert_eq!(refresh(&mut loaded, &client).await, Ok(false), "unchanged");
    let shown = Feeds::default();
    shown.statuses.lock().expect("lock").push(FeedStatus::default());
    apply(std::slice::from_ref(&loaded), &handle, &shown).await.expect("applied");
    let status = shown.statuses().remove(0);
    assert_eq!((status.networks, status.guarded), (1, 3));
    let denied =
        |addr: &str| handle.denied(&ClientId::direct(addr.parse().expect("address")), Traits::default());
    let decision = denied("192.0.2.9").expect("listed");
    assert_eq!((decision.origin.to_string().as_str(), &*decision.reason), ("feed:drop", "listed by drop"));
    assert!(denied("198.51.100.9").is_none(), "its network holds an allowed address");
    let why = handle.why("192.0.2.9".parse().expect("address")).await.expect("why");
    assert_eq!(why.feeds.len(), 1);
    std::fs::write(&list, "<html>not found</html>\n<p>\n").expect("list");
    let error = refresh(&mut loaded, &client).await.expect_err("refused");
    assert!(error.contains("are no networks"), "{error}");
    assert_eq!(loaded.list.networks.len(), 4, "the old list stays");
}

/// Serves a fixed list with an ETag to the first requests, counting those answered 304.
async fn serve(body: &'static str, sha256: &'static str) -> (u16, Arc<std::sync::atomic::AtomicU64>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("address").port();
    let unchanged = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = unchanged.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let answer = if request.starts_with("GET /sum") {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{sha256}", sha256.len())
            } else if request.contains("if-none-match: \"v1\"") {
                count.fetch_add(1, Ordering::Relaxed);
                "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned()
            } else {
                format!("HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            };
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, unchanged)
}

#[tokio::test]
async fn a_download_knows_etag_checksum_and_bounds() {
    let folder = folder("web");
    let sum = "84f4e9fe61f3f1aa1ee9b5ae39a0ee8a7ba1c1a8f2c8a2a2d9b0b3b9b6a3e2e0  list.txt\n";
    let (port, unchanged) = serve("192.0.2.0/24\n198.51.100.7\n", sum).await;
    let check = async |extra: &str| {
        let url = format!("http://127.0.0.1:{port}");
        let text =
            format!("[[bans.feeds]]\nname = \"web\"\nurl = \"{url}/list\"\n{}", extra.replace("URL", &url));
        let feed = bans(&folder, &text).feeds.remove(0);
        let mut loaded = Loaded {
            feed,
            known: Known::default(),
            list: Arc::new(List { networks: Vec::new(), bad: 0 }),
            due: Instant::now(),
        };
        let client = Client::new().expect("client");
        let first = refresh(&mut loaded, &client).await;
        let again = refresh(&mut loaded, &client).await;
        (first, again, loaded.list.networks.len())
    };
    assert_eq!(check("").await, (Ok(true), Ok(false), 2));
    assert_eq!(unchanged.load(Ordering::Relaxed), 1);
    let (first, _, networks) = check("max_bytes = 5").await;
    assert!(first.is_err_and(|e| e.contains("larger than 5 bytes")) && networks == 0);
    let (first, _, _) = check("max_entries = 1").await;
    assert!(first.is_err_and(|e| e.contains("more than 1 networks")));
    let (first, _, networks) = check("sha256_url = \"URL/sum\"").await;
    assert!(first.is_err_and(|e| e.contains("the list is not taken")) && networks == 0);
}

#[tokio::test]
async fn a_file_is_held_to_its_checksum_and_its_signature() {
    let folder = folder("signed");
    let minisign = |arguments: &[&str]| {
        let output = std::process::Command::new("minisign").args(arguments).current_dir(&folder.0).output();
        let output = output.expect("minisign (Debian's package minisign) is needed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let write = |text: &str| std::fs::write(folder.0.join("list.txt"), text).expect("list");
    for name in ["ours", "theirs"] {
        minisign(&["-G", "-W", "-f", "-p", &format!("{name}.pub"), "-s", &format!("{name}.key")]);
    }
    let public = std::fs::read_to_string(folder.0.join("ours.pub")).expect("key");
    let public = public.lines().nth(1).expect("the second line is the key").to_owned();
    let check = async |extra: &str, expected: Option<&str>| {
        let text = format!("[[bans.feeds]]\nname = \"list\"\nfile = \"list.txt\"\n{extra}");
        let mut loaded = Loaded {
            feed: bans(&folder, &text).feeds.remove(0),
            known: Known::default(),
            list: Arc::new(List { networks: Vec::new(), bad: 0 }),
            due: Instant::now(),
        };
        let got = refresh(&mut loaded, &Client::new().expect("client")).await;
        match expected {
            None => assert_eq!((got, loaded.list.networks.len()), (Ok(true), 1), "{extra}"),
            Some(part) => {
                assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{extra}: {got:?}");
                assert_eq!(loaded.list.networks.len(), 0);
            }
        }
    };
    write("192.0.2.1\n");
    let key = format!("minisign_key = \"{public}\"");
    check(&key, Some("No such file")).await;
    minisign(&["-S", "-s", "ours.key", "-m", "list.txt"]);
    check(&key, None).await;
    let elsewhere = format!("{key}\nsignature = \"other.sig\"");
    std::fs::rename(folder.0.join("list.txt.minisig"), folder.0.join("other.sig")).expect("renamed");
    check(&elsewhere, None).await;
    write("192.0.2.2\n");
    check(&elsewhere, Some("the signature does not fit")).await;
    minisign(&["-S", "-s", "theirs.key", "-m", "list.txt"]);
    check(&key, Some("the signature does not fit")).await;
    std::fs::write(folder.0.join("list.txt.minisig"), "no signature\n").expect("signature");
    check(&key, Some("the signature does not fit")).await;
    let sum = "0e46157437d8a1e1c3b4b1f0d9b5ad6a";
    check(&format!("sha256 = \"{}\"", sum.repeat(2)), Some("is expected: the list is not taken")).await;
    let real =
        std::process::Command::new("sha256sum").arg(folder.0.join("list.txt")).output().expect("sha256sum");
    let real = String::from_utf8_lossy(&real.stdout).split(' ').next().unwrap_or_default().to_owned();
    check(&format!("sha256 = \"{}\"", real.to_uppercase()), None).await;
}

#[tokio::test]
async fn the_task_follows_and_an_allowance_takes_effect() {
    let folder = folder("follow");
    std::fs::write(folder.0.join("list.txt"), "192.0.2.7\n").expect("list");
    let config = bans(&folder, "[[bans.feeds]]\nname = \"drop\"\nfile = \"list.txt\"");
    let handle = start(&config, Parts::default()).expect("start");
    let client = ClientId::direct("192.0.2.7".parse().expect("address"));
    let (shown, _task) = follow(config.feeds, Client::new().expect("client"), handle.clone());
    until("listed", || handle.denied(&client, Traits::default()).is_some()).await;
    assert_eq!(shown.statuses()[0].networks, 1);
    handle.allow(IpNetwork::host(client.addr())).await.expect("allowed");
    until("released", || handle.denied(&client, Traits::default()).is_none()).await;
}
