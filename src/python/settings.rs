//! The engine's settings as keyword arguments. A new one is a line here, one in the stub.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::engine::{Millis, Proxy, Rate, Settings, SlowReader};
use crate::protocol::handshake::forwarded::ForwardingHeader;

use super::errors::UsageError;

/// The most seconds that a setting may have: about 31 years.
const MOST_S: f64 = 1e9;

/// The most events a second that a rate may allow.
const MOST_PER_S: f64 = 1e6;

/// `settings` with what is `given` by name.
pub fn overlaid(mut settings: Settings, given: Option<&Bound<'_, PyDict>>) -> PyResult<Settings> {
    for (name, value) in given.into_iter().flatten() {
        let name = name.cast_into::<PyString>()?;
        set(&mut settings, &name.to_cow()?, &value)?;
    }
    Ok(settings)
}

fn set(settings: &mut Settings, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match name {
        "max_message_bytes" => settings.limits.max_message_bytes = number(name, value)?,
        "max_fragments" => settings.limits.max_fragments = number(name, value)?,
        "max_head_bytes" => settings.max_head_bytes = number(name, value)?,
        "max_control_frames_per_s" => {
            settings.control_rate = Rate::per_second(number(name, value)?);
        }
        "message_rate" => settings.message_rate = rate(name, value)?,
        "trusted_proxies" => settings.trust.set_proxies(proxies(name, value)?),
        "forwarding_header" => settings.trust.header = forwarding_header(name, value)?,
        "proxy_protocol" => settings.proxy_protocol = flag(name, value)?,
        "max_send_buffer" => settings.max_send_buffer = number(name, value)?,
        "slow_reader" => settings.slow_reader = slow_reader(name, value)?,
        "compression" => settings.compression.enabled = flag(name, value)?,
        "compression_minimum_size" => settings.compression.minimum_size = number(name, value)?,
        "compression_level" => settings.compression.level = between(name, value, 1, 9)?,
        "compression_memory_level" => {
            settings.compression.memory_level = between(name, value, 1, 9)?;
        }
        "server_context_takeover" => {
            settings.compression.policy.server_context_takeover = flag(name, value)?;
        }
        "client_context_takeover" => {
            settings.compression.policy.client_context_takeover = flag(name, value)?;
        }
        "server_window_bits" => {
            settings.compression.policy.server_window_bits = between(name, value, 9, 15)?;
        }
        "client_window_bits" => {
            settings.compression.policy.client_window_bits = between(name, value, 9, 15)?;
        }
        "max_memory" => settings.max_memory = number(name, value)?,
        "max_connections" => settings.max_connections = number(name, value)?,
        "max_connections_per_ip" => settings.max_connections_per_ip = number(name, value)?,
        "max_undecided_handshakes" => settings.max_undecided_handshakes = number(name, value)?,
        "handshake_timeout_s" => settings.handshake_timeout = millis(name, value)?,
        "ping_interval_s" => settings.ping_interval = millis(name, value)?,
        "ping_timeout_s" => settings.ping_timeout = millis(name, value)?,
        "close_timeout_s" => settings.close_timeout = millis(name, value)?,
        "io_uring" => settings.io_uring = flag(name, value)?,
        "report_idle" => settings.report_idle = flag(name, value)?,
        _ => return Err(UsageError::new_err(format!("the engine has no setting {name:?}"))),
    }
    Ok(())
}

/// A whole number that its field can hold.
fn number<'py, N: FromPyObjectOwned<'py>>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<N> {
    value.extract().map_err(|_| wrong(name, value, "a whole number, not below 0 nor too large"))
}

fn between(name: &str, value: &Bound<'_, PyAny>, least: u8, most: u8) -> PyResult<u8> {
    let number = value.extract().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| wrong(name, value, &format!("{least} to {most}")))
}

fn flag(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().map_err(|_| wrong(name, value, "True or False"))
}

fn proxies(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<Proxy>> {
    let proxies = value.extract::<Vec<String>>().ok();
    let proxies = proxies.and_then(|texts| texts.iter().map(|text| text.parse().ok()).collect());
    proxies.ok_or_else(|| wrong(name, value, "a list of addresses, networks or \"unix\""))
}

fn forwarding_header(name: &str, value: &Bound<'_, PyAny>) -> PyResult<ForwardingHeader> {
    match value.extract() {
        Ok("x-forwarded-for") => Ok(ForwardingHeader::XForwardedFor),
        Ok("forwarded") => Ok(ForwardingHeader::Forwarded),
        _ => Err(wrong(name, value, "\"x-forwarded-for\" or \"forwarded\"")),
    }
}

/// Events a second, and how many at once.
fn rate(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Rate> {
    match value.extract::<(f64, u32)>() {
        Ok((events_per_s, burst)) if (0.0..=MOST_PER_S).contains(&events_per_s) => {
            Ok(Rate::new(events_per_s, burst))
        }
        _ => Err(wrong(name, value, "0 to 1e6 a second, and a whole number at once")),
    }
}

fn slow_reader(name: &str, value: &Bound<'_, PyAny>) -> PyResult<SlowReader> {
    match value.extract() {
        Ok("close") => Ok(SlowReader::Close),
        Ok("drop") => Ok(SlowReader::Drop),
        _ => Err(wrong(name, value, "\"close\" or \"drop\"")),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked just before.
fn millis(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Millis> {
    match value.extract::<f64>() {
        Ok(seconds) if (0.0..=MOST_S).contains(&seconds) => Ok((seconds * 1000.0).ceil() as Millis),
        _ => Err(wrong(name, value, "0 to 1e9 seconds")),
    }
}

fn wrong(name: &str, value: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    UsageError::new_err(format!("{name} must be {allowed}; not {value:.100}"))
}
