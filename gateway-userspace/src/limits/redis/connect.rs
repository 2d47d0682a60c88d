//! Connections to Redis: one server, the master that Sentinels know, or a Cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates, TlsMode, Value,
};

use crate::config::limits::{RedisKind, RedisStore, RedisTls};

/// Longest that connecting to one server may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands that may wait in a connection's queue.
const QUEUE: usize = 4096;
/// A peer that acknowledges nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest secret file, in bytes.
const MAX_SECRET_BYTES: u64 = 4096;
/// Largest certificate file, in bytes.
const MAX_PEM_BYTES: u64 = 1 << 20;
/// How often the Cluster client goes on after a redirection, or a slot that is being moved.
const CLUSTER_RETRIES: u32 = 4;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    /// The second is for what must not be sent twice: its client retries nothing.
    Cluster(Box<[ClusterConnection; 2]>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{file}: {reason}. Make it readable for the gateway, or name another in [limit_store]")]
    File { file: PathBuf, reason: String },
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("connecting took longer than {CONNECT_TIMEOUT:?}")]
    Slow,
}

impl Connection {
    /// Sends a command; `may_repeat`: a client that retries by itself may.
    pub(super) async fn send(&mut self, cmd: &Cmd, may_repeat: bool) -> Result<Value, RedisError> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd).await?.extract_error(),
            Self::Cluster(connections) => {
                let [repeating, once] = connections.as_mut();
                let connection = if may_repeat { repeating } else { once };
                connection.req_packed_command(cmd).await?.extract_error()
            }
        }
    }
}

/// Connects, within [`CONNECT_TIMEOUT`] for each step.
pub(super) async fn connect(store: &RedisStore) -> Result<Vec<Connection>, ConnectError> {
    let secrets = Secrets::read(store)?;
    let work = async {
        match &store.kind {
            RedisKind::Single => {
                let client = server(store, &secrets)?;
                servers(store, &client).await
            }
            RedisKind::Sentinel { master } => {
                let client = master_of(store, master, &secrets).await?;
                servers(store, &client).await
            }
            RedisKind::Cluster => cluster(store, &secrets).await,
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT * 2, work).await.map_err(|_| ConnectError::Slow)?
}

async fn servers(store: &RedisStore, client: &Client) -> Result<Vec<Connection>, ConnectError> {
    // No response timeout of the client's own: every call here has a deadline, and a late answer does no harm.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT))
        .set_pipeline_buffer_size(QUEUE);
    let mut connections = Vec::with_capacity(usize::from(store.connections));
    for _ in 0..store.connections {
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        connections.push(Connection::Server(connection));
    }
    Ok(connections)
}

fn server(store: &RedisStore, secrets: &Secrets) -> Result<Client, ConnectError> {
    let info = infos(store, secrets)?.into_iter().next();
    let info = info.ok_or_else(|| RedisError::from((redis::ErrorKind::InvalidClientConfig, "no address")))?;
    Ok(match &secrets.certificates {
        Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
        None => Client::open(info)?,
    })
}

async fn master_of(store: &RedisStore, master: &str, secrets: &Secrets) -> Result<Client, ConnectError> {
    let addresses: Vec<ConnectionAddr> =
        store.addresses.iter().map(|a| address(a, store.tls.is_some())).collect();
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(store.database)
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(username) = &store.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &secrets.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(username) = &store.sentinel_username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &secrets.sentinel_password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(certificates) = &secrets.certificates {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates.clone());
    }
    let mut sentinels = builder.build()?;
    Ok(sentinels.async_get_client().await?)
}

async fn cluster(store: &RedisStore, secrets: &Secrets) -> Result<Vec<Connection>, ConnectError> {
    let repeating = cluster_of(store, secrets, CLUSTER_RETRIES).await?;
    let once = cluster_of(store, secrets, 0).await?;
    Ok(vec![Connection::Cluster(Box::new([repeating, once]))])
}

async fn cluster_of(
    store: &RedisStore,
    secrets: &Secrets,
    retries: u32,
) -> Result<ClusterConnection, ConnectError> {
    // The pauses between retries are short: what takes longer than the deadline is of no use.
    let mut builder = ClusterClientBuilder::new(infos(store, secrets)?)
        .retries(retries)
        .min_retry_wait(1)
        .max_retry_wait(20)
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(CONNECT_TIMEOUT)
        .tcp_settings(tcp());
    if let Some(username) = &store.username {
        builder = builder.username(username);
    }
    if let Some(password) = &secrets.password {
        builder = builder.password(password);
    }
    if let Some(certificates) = &secrets.certificates {
        builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
    }
    Ok(builder.build()?.get_async_connection().await?)
}

fn infos(store: &RedisStore, secrets: &Secrets) -> Result<Vec<ConnectionInfo>, ConnectError> {
    let mut login = RedisConnectionInfo::default().set_db(store.database);
    if let Some(username) = &store.username {
        login = login.set_username(username);
    }
    if let Some(password) = &secrets.password {
        login = login.set_password(password);
    }
    let infos = store.addresses.iter().map(|at| {
        let info = address(at, store.tls.is_some()).into_connection_info()?;
        Ok(info.set_tcp_settings(tcp()).set_redis_settings(login.clone()))
    });
    infos.collect()
}

fn address((host, port): &(String, u16), tls: bool) -> ConnectionAddr {
    let (host, port) = (host.clone(), *port);
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// Nagle's algorithm off (the crate leaves it on, at a third to two thirds of the throughput), and a peer that is
/// gone noticed.
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(USER_TIMEOUT).with_interval(Duration::from_secs(1));
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(USER_TIMEOUT)
}

/// What is read from files, anew for each connection: a password may have been changed.
struct Secrets {
    password: Option<String>,
    sentinel_password: Option<String>,
    certificates: Option<TlsCertificates>,
}

impl Secrets {
    fn read(store: &RedisStore) -> Result<Self, ConnectError> {
        let secret = |file: &Option<PathBuf>| {
            file.as_deref().map(|file| {
                let bytes = read(file, MAX_SECRET_BYTES)?;
                let text = String::from_utf8(bytes).map_err(|_| failed(file, "is not UTF-8"))?;
                Ok::<_, ConnectError>(text.trim_end_matches(['\r', '\n']).to_owned())
            })
        };
        Ok(Self {
            password: secret(&store.password_file).transpose()?,
            sentinel_password: secret(&store.sentinel_password_file).transpose()?,
            certificates: store.tls.as_ref().map(certificates).transpose()?,
        })
    }
}

fn certificates(tls: &RedisTls) -> Result<TlsCertificates, ConnectError> {
    // The crate asks rustls for the process's provider. Somebody may have set it before: then it stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client_tls = tls.client.as_ref().map(|(certificate, key)| {
        Ok::<_, ConnectError>(ClientTlsConfig {
            client_cert: read(certificate, MAX_PEM_BYTES)?,
            client_key: read(key, MAX_PEM_BYTES)?,
        })
    });
    let root_cert = tls.ca_file.as_deref().map(|file| read(file, MAX_PEM_BYTES));
    Ok(TlsCertificates { client_tls: client_tls.transpose()?, root_cert: root_cert.transpose()? })
}

fn read(file: &Path, most: u64) -> Result<Vec<u8>, ConnectError> {
    let size = std::fs::metadata(file).map_err(|e| failed(file, e))?.len();
    if size > most {
        return Err(failed(file, format!("has {size} bytes, at most {most} are read")));
    }
    std::fs::read(file).map_err(|e| failed(file, e))
}

fn failed(file: &Path, reason: impl std::fmt::Display) -> ConnectError {
    ConnectError::File { file: file.to_owned(), reason: reason.to_string() }
}
