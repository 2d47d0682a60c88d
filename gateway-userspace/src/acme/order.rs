//! One certificate: order, prove, finalize, keep.

use instant_acme::{
    Account, AccountBuilder, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier,
    NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::https::Https;
use super::store::Store;
use super::{AcmeError, Challenge, Challenges, Settings};

/// The account at the authority: the one kept on disk, or a new one.
pub(super) async fn account(settings: &Settings, store: &Store) -> Result<Account, AcmeError> {
    let builder = || -> Result<AccountBuilder, AcmeError> {
        Ok(Account::builder_with_http(Box::new(Https::new(settings.roots.as_deref())?)))
    };
    let failed = |step| move |source| AcmeError::Authority { step, source };
    if let Some(credentials) = store.account(&settings.directory)? {
        return builder()?.from_credentials(credentials).await.map_err(failed("taking up the account"));
    }
    let contact: Vec<&str> = settings.contact.as_deref().into_iter().collect();
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder()?
        .create(&wanted, settings.directory.clone(), None)
        .await
        .map_err(failed("making an account"))?;
    store.put_account(&credentials)?;
    Ok(account)
}

/// Orders a certificate for `names` and keeps it. `replaces` names the one that it renews (RFC 9773 section 5).
pub(super) async fn obtain(
    account: &Account,
    names: &[String],
    settings: &Settings,
    store: &Store,
    challenges: &Challenges,
    replaces: Option<CertificateIdentifier<'_>>,
) -> Result<(), AcmeError> {
    let result = attempt(account, names, settings, store, challenges, replaces).await;
    challenges.clear();
    result
}

async fn attempt(
    account: &Account,
    names: &[String],
    settings: &Settings,
    store: &Store,
    challenges: &Challenges,
    replaces: Option<CertificateIdentifier<'_>>,
) -> Result<(), AcmeError> {
    let failed = |step| move |source| AcmeError::Authority { step, source };
    let identifiers: Vec<Identifier> = names.iter().map(|n| Identifier::Dns(n.clone())).collect();
    // To say what is replaced is a courtesy: an authority that has none of it (RFC 9773 section 5: a certificate can be
    // replaced once) must not keep the old one from being renewed.
    let told = match replaces {
        Some(old) => account.new_order(&NewOrder::new(&identifiers).replaces(old)).await.ok(),
        None => None,
    };
    let mut order = match told {
        Some(order) => order,
        None => account.new_order(&NewOrder::new(&identifiers)).await.map_err(failed("ordering"))?,
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed("reading an authorization"))?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let (kind, label) = match settings.challenge {
            Challenge::Http01 => (ChallengeType::Http01, "http-01"),
            Challenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        };
        let mut challenge = authorization.challenge(kind).ok_or(AcmeError::NoSuchChallenge(label))?;
        let proof = challenge.key_authorization();
        match settings.challenge {
            Challenge::Http01 => challenges.put_token(&challenge.token, proof.as_str()),
            Challenge::TlsAlpn01 => {
                let Identifier::Dns(name) = challenge.identifier().identifier else {
                    return Err(AcmeError::NoSuchChallenge(label));
                };
                challenges.put_certificate(name, proof_certificate(name, proof.digest().as_ref())?);
            }
        }
        challenge.set_ready().await.map_err(failed("asking for validation"))?;
    }
    let status = order.poll_ready(&RetryPolicy::default()).await.map_err(failed("waiting for validation"))?;
    if status != OrderStatus::Ready {
        return Err(AcmeError::NotValidated(format!("{status:?}").to_lowercase()));
    }
    let key = order.finalize().await.map_err(failed("finalizing the order"))?;
    let chain = order
        .poll_certificate(&RetryPolicy::default())
        .await
        .map_err(failed("waiting for the certificate"))?;
    let first = names.first().map_or("", String::as_str);
    store.put_certificate(first, &chain, &key)?;
    Ok(())
}

/// The certificate of a validation over TLS: self-signed, with the proof's digest in the extension
/// `acmeIdentifier` (RFC 8737 section 3).
fn proof_certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    let answer = |e: &dyn std::fmt::Display| AcmeError::Answer(e.to_string());
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).map_err(|e| answer(&e))?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
    let key = rcgen::KeyPair::generate().map_err(|e| answer(&e))?;
    let certificate = params.self_signed(&key).map_err(|e| answer(&e))?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private).map_err(|e| answer(&e))?;
    Ok(CertifiedKey::new(vec![CertificateDer::from(certificate.der().to_vec())], signing))
}
