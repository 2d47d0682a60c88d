//! Persistent collections across transactions.

use std::sync::Arc;

use super::{compile, run};
use crate::{Services, Transaction, collections::MemoryStore};

/// Runs requests one after the other with one store; the ids that each matched.
fn check(rules: &str, requests: &[&str], expected: &[&[u64]]) {
    let store = Arc::new(MemoryStore::new(1000));
    let services = Services { store: Some(store), ..Services::default() };
    let mut transaction = Transaction::new(compile(rules), services);
    let got: Vec<Vec<u64>> = requests
        .iter()
        .map(|r| {
            run(&mut transaction, r);
            transaction.matches().iter().map(|m| m.rule.id).collect()
        })
        .collect();
    assert_eq!(got, expected, "{rules}");
}

const GET: &str = "GET /?u=a HTTP/1.1\n\n";
const OTHER: &str = "GET /?u=b HTTP/1.1\n\n";

#[test]
fn counters() {
    let init = "SecAction id:1,phase:1,nolog,pass,initcol:ip=%{REMOTE_ADDR},setvar:ip.count=+1\n";
    check(&format!("{init}SecRule IP:count \"@gt 2\" id:2,phase:1"), &[GET; 4], &[&[], &[], &[2], &[2]]);
    check(&format!("{init}SecRule IP:is_new \"@eq 1\" id:2,phase:1"), &[GET; 2], &[&[2], &[]]);
    check(&format!("{init}SecRule IP:key \"@streq 192.0.2.1\" id:2,phase:5"), &[GET], &[&[2]]);
    check(
        &format!(
            "{init}SecAction id:3,phase:2,nolog,pass,setvar:!ip.count\nSecRule IP:count \"@gt 1\" id:2,phase:1"
        ),
        &[GET; 3],
        &[&[], &[], &[]],
    );
}

#[test]
fn keys_keep_records_apart() {
    let rules = "SecAction id:1,phase:1,nolog,pass,setuid:%{ARGS.u},setvar:user.n=+1
                 SecRule USER:n \"@eq 2\" id:2,phase:1\nSecRule USERID \"@streq b\" id:3,phase:1";
    check(rules, &[GET, OTHER, GET], &[&[], &[3], &[2]]);
}

#[test]
fn expiry_and_decay() {
    let rules =
        "SecAction \"id:1,phase:1,nolog,pass,initcol:global=g,setvar:global.a=5,expirevar:global.a=0\"
                 SecRule &GLOBAL:a \"@eq 1\" id:2,phase:1";
    check(rules, &[GET, GET], &[&[2], &[2]]);
    let rules = "SecAction id:1,phase:1,nolog,pass,initcol:global=g\nSecRule &GLOBAL:a \"@eq 1\" id:2,phase:1
                 SecAction \"id:3,phase:2,nolog,pass,setvar:global.a=5,expirevar:global.a=0\"";
    check(rules, &[GET, GET], &[&[], &[]]);
    let rules = "SecAction id:1,phase:1,nolog,pass,initcol:global=g\nSecRule GLOBAL:a \"@eq 5\" id:2,phase:1
                 SecAction \"id:3,phase:2,nolog,pass,setvar:global.a=5,deprecatevar:global.a=1/100\"";
    check(rules, &[GET, GET], &[&[], &[2]]);
}

#[test]
fn without_a_store_collections_live_as_long_as_the_transaction() {
    let rules =
        "SecAction id:1,phase:1,nolog,pass,initcol:ip=x,setvar:ip.n=+1\nSecRule IP:n \"@eq 1\" id:2,phase:1";
    let mut transaction = Transaction::new(compile(rules), Services::default());
    for _ in 0..2 {
        run(&mut transaction, GET);
        assert_eq!(transaction.matches().len(), 1);
    }
}
