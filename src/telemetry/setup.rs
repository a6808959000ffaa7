//! Logging set-up: what we log through `tracing` and what Pingora logs through `log`, both to one [`Sink`].

use prometheus::IntCounter;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::line::Format;
use super::sink::Sink;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The level is not one.
    #[error(
        "log level is `{level}`, expected off, error, warn, info, debug, trace, or a list such as `info,portcullis::sync=debug`"
    )]
    Level {
        /// What was given.
        level: String,
    },
    /// Somebody else set it up before.
    #[error("logging is set up already")]
    Twice,
}

/// Sends events of `level` and above to `sink`, for the life of the process.
///
/// # Errors
/// [`SetupError::Level`] when `level` cannot be read, [`SetupError::Twice`] at the second call in a process.
pub fn install(format: Format, level: &str, sink: Sink) -> Result<(), SetupError> {
    let filter = filter(level).ok_or_else(|| SetupError::Level { level: level.escape_debug().to_string() })?;
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(sink).with_ansi(false);
    match format {
        Format::Text => events.with_target(false).try_init(),
        Format::Json => events.json().flatten_event(true).try_init(),
    }
    .map_err(|_| SetupError::Twice)?;
    log::set_logger(&Bridge).map_err(|_| SetupError::Twice)?;
    log::set_max_level(enabled_for_libraries());
    Ok(())
}

/// The library takes a misspelt level for the name of a module; nobody means that.
fn filter(level: &str) -> Option<EnvFilter> {
    let known = |part: &str| part.contains('=') || !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    level.split(',').all(known).then(|| EnvFilter::builder().parse(level).ok()).flatten()
}

/// What libraries need not even format: anything below the most detailed level that some filter lets through.
fn enabled_for_libraries() -> log::LevelFilter {
    match LevelFilter::current().into_level() {
        None => log::LevelFilter::Off,
        Some(Level::ERROR) => log::LevelFilter::Error,
        Some(Level::WARN) => log::LevelFilter::Warn,
        Some(Level::INFO) => log::LevelFilter::Info,
        Some(_) => log::LevelFilter::Debug,
    }
}

/// Counts panics and logs where they happened. The payload is left out: it may quote what must not be logged.
pub fn count_panics(panics: IntCounter) {
    std::panic::set_hook(Box::new(move |panic| {
        panics.inc();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}

/// What libraries log through the `log` crate, as events of target `library`.
struct Bridge;

impl log::Log for Bridge {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        match level(metadata) {
            log::Level::Error => tracing::enabled!(target: "library", Level::ERROR),
            log::Level::Warn => tracing::enabled!(target: "library", Level::WARN),
            log::Level::Info => tracing::enabled!(target: "library", Level::INFO),
            log::Level::Debug => tracing::enabled!(target: "library", Level::DEBUG),
            log::Level::Trace => false,
        }
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let source = record.target();
        let message = record.args().to_string().escape_debug().to_string();
        match level(record.metadata()) {
            log::Level::Error => tracing::error!(target: "library", source, "{message}"),
            log::Level::Warn => tracing::warn!(target: "library", source, "{message}"),
            log::Level::Info => tracing::info!(target: "library", source, "{message}"),
            log::Level::Debug => tracing::debug!(target: "library", source, "{message}"),
            log::Level::Trace => {}
        }
    }

    fn flush(&self) {}
}

/// The level at which we pass a record on.
///
/// Pingora reports each failed handshake, reset connection and malformed message as an error or a warning, one line per connection: at
/// a client's command, that is. The counters and the decision log tell of those, so here they are for debugging only. So is what it
/// says at `info` while it starts and stops.
fn level(metadata: &log::Metadata<'_>) -> log::Level {
    const PER_CONNECTION: [&str; 5] = [
        "pingora_core::apps",
        "pingora_core::connectors",
        "pingora_core::protocols",
        "pingora_core::services::listening",
        "pingora_proxy",
    ];
    let target = metadata.target();
    let chatty = PER_CONNECTION.iter().any(|module| target.starts_with(module));
    match metadata.level() {
        level if chatty => level.max(log::Level::Debug),
        log::Level::Info => log::Level::Debug,
        level => level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for (level, good) in [
            ("info", true),
            ("off", true),
            ("warn,portcullis::sync=debug", true),
            ("debgu", false),
            ("", false),
            ("info,", false),
            ("portcullis=loud", false),
        ] {
            assert_eq!(filter(level).is_some(), good, "{level:?}");
        }
    }

    #[test]
    fn noise_that_a_client_can_cause_is_for_debugging_only() {
        let at = |target, level_given| level(&log::Metadata::builder().target(target).level(level_given).build());
        assert_eq!(at("pingora_core::services::listening", log::Level::Error), log::Level::Debug);
        assert_eq!(at("pingora_proxy::proxy_h1", log::Level::Error), log::Level::Debug);
        assert_eq!(at("pingora_core::protocols::http::v1::server", log::Level::Trace), log::Level::Trace);
        assert_eq!(at("pingora_core::server", log::Level::Error), log::Level::Error);
        assert_eq!(at("pingora_core::server", log::Level::Info), log::Level::Debug);
        assert_eq!(at("rustls::conn", log::Level::Warn), log::Level::Warn);
    }
}
