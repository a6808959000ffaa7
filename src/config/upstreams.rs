//! `upstreams`.

use super::Reader;
use super::raw;
use crate::proxy::tls;
use crate::proxy::upstream::{HealthCheck, UpstreamSettings, UpstreamTls};
use crate::rules::PathReading;
use crate::yaml::{Node, Place};

impl Reader<'_> {
    /// The upstreams in the order of the file, with how each reads paths.
    pub(super) fn upstreams(&mut self) -> Vec<(UpstreamSettings, PathReading)> {
        let document = self.document;
        let Some(node) = document.get("upstreams").filter(|node| node.is_mapping()) else {
            self.problem_at("upstreams", "`upstreams` is missing, expected a mapping from names to upstreams");
            return Vec::new();
        };
        node.entries().filter_map(|(name, place, node)| self.upstream(name, place, node)).collect()
    }

    fn upstream(&mut self, name: &str, place: &Place, node: &Node) -> Option<(UpstreamSettings, PathReading)> {
        let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !named {
            self.problems.push(place.problem(format!("upstream `{name}`: expected letters, digits, `-`, `_`, `.`")));
        }
        let raw: raw::Upstream = self.read(node)?;
        let raw::LoadBalancing::RoundRobin = raw.load_balancing;
        if raw.servers.is_empty() {
            self.problems.push(raw.servers.problem("`servers` is empty, expected at least one `host:port`"));
        }
        for server in raw.servers.iter() {
            if !is_server(server) {
                let message = format!("server `{server}` is neither `host:port` nor `unix:/path`");
                self.problems.push(raw.servers.problem(message));
            }
        }
        let tls = raw.tls.and_then(|tls| self.upstream_tls(tls));
        let health_check = raw.health_check.map(|check| HealthCheck { path: check.path, interval: check.interval.0 });
        if let Some(path) = health_check.as_ref().and_then(|check| check.path.as_deref())
            && !path.starts_with('/')
        {
            self.problems.push(node.problem(format!("health check path `{path}` does not begin with `/`")));
        }
        let settings = UpstreamSettings {
            name: name.to_owned(),
            servers: raw.servers.value,
            connect_timeout: raw.connect_timeout.0,
            read_timeout: raw.read_timeout.0,
            write_timeout: raw.write_timeout.0,
            tls,
            http2: raw.h2,
            health_check,
            retries: raw.retries,
        };
        Some((settings, raw.paths))
    }

    fn upstream_tls(&mut self, raw: raw::UpstreamTls) -> Option<UpstreamTls> {
        if raw.sni.is_empty() {
            self.problems.push(raw.sni.problem("`sni` is empty: the upstream's certificate could not be verified"));
        }
        let ca = raw.ca.map(|file| file.map(|file| self.file(&file)));
        let ca = ca.and_then(|file| tls::authorities(&file).map_err(|problem| self.problems.push(problem)).ok());
        let client = match (raw.certificate, raw.key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (certificate.map(|file| self.file(&file)), key.map(|file| self.file(&file)));
                tls::client(&certificate, &key).map_err(|problem| self.problems.push(problem)).ok()
            }
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                self.problems.push(one.problem("`certificate` and `key` go together"));
                None
            }
        };
        Some(UpstreamTls { sni: raw.sni.value, ca, client })
    }
}

fn is_server(server: &str) -> bool {
    if let Some(path) = server.strip_prefix("unix:") {
        return path.starts_with('/');
    }
    server
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}
