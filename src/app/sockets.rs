//! The sockets of a sidecar: which it wants, who gets them, and a second handle on each for whoever takes its place.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::socket::{Address, BindError, Socket};

/// The addresses that are wanted, and who waits for the sockets there.
#[derive(Default)]
pub(super) struct Wanted {
    addresses: Vec<Address>,
    seats: Vec<(Vec<usize>, oneshot::Sender<Vec<Socket>>)>,
}

/// A second handle on every socket. While there is one, connections come in that nobody accepts: let go of them at the end.
#[derive(Default)]
pub(super) struct Held(Mutex<Arc<Vec<Socket>>>);

impl Wanted {
    /// Notes that `address` is wanted, under the number that is answered.
    pub(super) fn note(&mut self, address: Address) -> usize {
        self.addresses.push(address);
        self.addresses.len() - 1
    }

    /// Whoever waits for the sockets with these numbers hears of them here, in the same order.
    pub(super) fn seat(&mut self, numbers: Vec<usize>) -> oneshot::Receiver<Vec<Socket>> {
        let (bring, brought) = oneshot::channel();
        self.seats.push((numbers, bring));
        brought
    }

    /// The addresses, by number.
    pub(super) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Brings everybody their sockets: those of `inherited` that are wanted, and new ones. The addresses are answered, with the ports that
    /// were taken. What is not wanted is closed.
    ///
    /// # Errors
    /// [`BindError`], and then nobody was brought anything.
    pub(super) fn bring(self, mut inherited: Vec<Socket>, held: &Held) -> Result<Vec<Address>, BindError> {
        let mut sockets = Vec::with_capacity(self.addresses.len());
        let (mut shares, mut addresses) = (Vec::new(), Vec::new());
        for wanted in self.addresses {
            let is_wanted = |socket: &Socket| socket.address().is_ok_and(|address| address == wanted);
            let socket = match inherited.iter().position(is_wanted) {
                Some(at) => inherited.swap_remove(at),
                None => wanted.bind()?,
            };
            let wrong = |source| BindError { address: wanted.to_string(), source };
            shares.push(socket.share().map_err(wrong)?);
            addresses.push(socket.address().map_err(wrong)?);
            sockets.push(Some(socket));
        }
        *held.0.lock() = Arc::new(shares);
        for (numbers, seat) in self.seats {
            let brought = numbers.iter().filter_map(|number| sockets.get_mut(*number)?.take()).collect();
            // Whoever waited has ended: so will the process.
            let _ = seat.send(brought);
        }
        Ok(addresses)
    }
}

impl Held {
    /// All of them; none before there are any.
    pub(super) fn sockets(&self) -> Arc<Vec<Socket>> {
        Arc::clone(&self.0.lock())
    }

    /// Lets go of all of them.
    pub(super) fn drop_all(&self) {
        *self.0.lock() = Arc::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Address {
        Address::Tcp("127.0.0.1:0".parse().unwrap())
    }

    #[tokio::test]
    async fn everybody_gets_what_was_inherited_for_them_and_the_rest_is_bound() {
        let (old, unwanted) = (any().bind().unwrap(), any().bind().unwrap());
        let (inherited, gone) = (old.address().unwrap(), unwanted.address().unwrap());
        let mut wanted = Wanted::default();
        let numbers = [any(), inherited.clone(), any()].map(|address| wanted.note(address));
        let (one, others) = (wanted.seat(vec![numbers[1]]), wanted.seat(vec![numbers[2], numbers[0]]));
        let held = Held::default();
        let addresses = wanted.bring(vec![unwanted, old], &held).unwrap();
        assert_eq!(addresses[1], inherited);
        let found = |sockets: Vec<Socket>| sockets.iter().map(|socket| socket.address().unwrap()).collect::<Vec<_>>();
        assert_eq!(found(one.await.unwrap()), std::slice::from_ref(&inherited));
        assert_eq!(found(others.await.unwrap()), [addresses[2].clone(), addresses[0].clone()]);
        gone.bind().unwrap();
        inherited.bind().unwrap_err();
        held.drop_all();
        inherited.bind().unwrap();
    }

    #[tokio::test]
    async fn nobody_gets_anything_when_one_address_is_taken() {
        let taken = any().bind().unwrap();
        let mut wanted = Wanted::default();
        let numbers = vec![wanted.note(any()), wanted.note(taken.address().unwrap())];
        let seat = wanted.seat(numbers);
        wanted.bring(Vec::new(), &Held::default()).unwrap_err();
        seat.await.unwrap_err();
    }
}
