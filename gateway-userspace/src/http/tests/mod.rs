//! The whole request path over loopback: a raw client, the server, a raw origin.

mod answers;
mod bodies;
mod bounds;
mod fixed;
mod floods;
mod gates;
mod h2;
mod h3;
mod harness;
mod life;
mod mtls;
mod patience;
mod rules;
mod servers;
mod smuggling;
mod tls;
mod upgrade;

use harness::{Gateway, Origin};

/// The size of the future that an async function makes.
trait Size<Arguments> {
    fn size(self) -> usize;
}

macro_rules! sizes {
    ($($argument:ident)*) => {
        impl<Function, Made, $($argument),*> Size<($($argument,)*)> for Function
        where
            Function: Fn($($argument),*) -> Made,
        {
            fn size(self) -> usize {
                std::mem::size_of::<Made>()
            }
        }
    };
}

sizes!(A B);
sizes!(A B C D E F G);

/// A task is as large as its largest state for as long as it lives: that is what an idle connection costs.
#[test]
fn idle_connections_are_small() {
    let h1 = super::h1::serve.size();
    let whole = super::connection::serve.size();
    assert!(whole <= 2048, "h1 {h1}, connection {whole}");
}
