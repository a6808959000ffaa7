//! `listen`, `status`, `admin` and `upgrade`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::raw;
use super::{Reader, Upgrade};
use crate::admin;
use crate::proxy::listen::Listener;
use crate::proxy::tls;
use crate::socket::Address;
use crate::yaml::{Placed, Secret};

impl Reader<'_> {
    pub(super) fn listeners(&mut self) -> Vec<Listener> {
        let Some(node) = self.document.get("listen") else { return Vec::new() };
        if !node.is_sequence() {
            self.problem_at("listen", "`listen` is not a list of addresses");
        }
        node.items().iter().filter_map(|item| self.listener(item)).collect()
    }

    fn listener(&mut self, node: &crate::yaml::Node) -> Option<Listener> {
        let raw: raw::Listen = self.read(node)?;
        self.socket_address(&raw.address);
        let tls = raw.tls.and_then(|tls| {
            let certificate = tls.certificate.map(|file| self.file(&file));
            let key = tls.key.map(|file| self.file(&file));
            let client_ca = tls.client_ca.map(|ca| ca.map(|file| self.file(&file)));
            // What is wrong with it is said below. Certificates are replaced by a reload, authorities are not.
            self.contents.extend(client_ca.iter().filter_map(|ca| Some(("listen", std::fs::read(&ca.value).ok()?))));
            let config = tls::server(&certificate, &key, client_ca.as_ref());
            config.map_err(|problem| self.problems.push(problem)).ok()
        });
        Some(Listener { address: raw.address.value, tls, h2c: raw.h2c })
    }

    pub(super) fn status(&mut self) -> Option<SocketAddr> {
        let raw: raw::Status = self.part("status")?;
        self.socket_address(&raw.address)
    }

    pub(super) fn admin(&mut self) -> Option<admin::Settings> {
        let raw: raw::Admin = self.part("admin")?;
        let address = match raw.address.strip_prefix("unix:") {
            Some(path) => {
                // Whoever takes the place of this process knows the socket by its path, wherever it is started.
                let path = self.path(path.as_ref());
                Address::Unix(std::path::absolute(&path).unwrap_or(path))
            }
            None => Address::Tcp(self.socket_address(&raw.address)?),
        };
        if let Address::Tcp(tcp) = &address
            && !is_loopback(tcp.ip())
            && raw.token.as_ref().is_none_or(Secret::is_empty)
        {
            let message = format!("`{tcp}` can be reached from other machines: `token` is required");
            self.problems.push(raw.address.problem(message));
        }
        Some(admin::Settings { address, token: raw.token.filter(|token| !token.is_empty()) })
    }

    pub(super) fn upgrade(&mut self) -> Option<Upgrade> {
        let raw: raw::Upgrade = self.part("upgrade")?;
        if raw.timeout.0.is_zero() {
            self.problem_at("upgrade", "`timeout` is 0: nobody could come in time");
        }
        Some(Upgrade { socket: self.path(&raw.socket), timeout: raw.timeout.0 })
    }

    fn socket_address(&mut self, address: &Placed<String>) -> Option<SocketAddr> {
        let found = address.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        if found.is_none() {
            let message = format!("`{}` is not an address, expected `host:port`", address.value);
            self.problems.push(address.problem(message));
        }
        found
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
