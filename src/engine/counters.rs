//! What a shard has done since it was made.

use crate::protocol::Failure;

macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Totals, never reset. Everything that is refused, closed or dropped is counted in one.
        #[derive(Debug, Default, Clone, Copy)]
        pub struct Counters {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Every counter with its name, in the order of their definition.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }

            /// Add what another shard has done.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

impl Counters {
    /// Count a connection that is closed for this fault of its peer.
    pub fn count_failure(&mut self, failure: Failure) {
        self.failed += 1;
        let limits = [
            (Failure::too_big(), &mut self.messages_too_big),
            (Failure::too_many_fragments(), &mut self.fragment_floods),
            (Failure::too_many_control_frames(), &mut self.control_floods),
            (Failure::too_many_messages(), &mut self.message_floods),
        ];
        for (cause, counter) in limits {
            *counter += u64::from(failure == cause);
        }
    }
}

counters! {
    /// TCP (or Unix) connections accepted.
    accepted,
    /// Connections aborted at once, because even refusing them was over the limit.
    aborted_over_limit,
    /// Connections aborted because their PROXY header was malformed, or was none.
    proxy_headers_malformed,
    /// Connections aborted because a PROXY header is wanted, and they came from nobody who is
    /// trusted to send one.
    proxies_untrusted,
    /// Handshakes that were read whole and reported.
    requested,
    /// Of those, given up before the caller decided.
    abandoned,
    /// Handshakes answered with something other than 101.
    refused,
    /// Of `refused`, 431: the header block passed `max_head_bytes` or its 100 lines.
    requests_too_large,
    /// Of `refused`, 503: `max_connections` were there.
    over_max_connections,
    /// Of `refused`, 503: `max_connections_per_ip` were there.
    over_max_connections_per_ip,
    /// Of `refused`, 503: `max_undecided_handshakes` waited.
    over_max_undecided,
    /// Of `refused`, 503: over three quarters of `max_memory` were held.
    over_max_memory,
    /// Handshakes answered with 101.
    opened,
    /// WebSocket connections that ended, however.
    closed,
    /// Of those, closed by this server for a fault of the peer (1002, 1007, 1008, 1009).
    failed,
    /// Of `failed`, 1009: a message passed `max_message_bytes`.
    messages_too_big,
    /// Of `failed`, 1008: a message passed `max_fragments`.
    fragment_floods,
    /// Of `failed`, 1008: Pings and Pongs passed `control_rate`.
    control_floods,
    /// Of `failed`, 1008: messages went on beyond `message_rate`.
    message_floods,
    /// Of `closed`, TCP ended without a Close (1006).
    lost,
    /// Of `closed`, closed with 1013: the queue passed `max_send_buffer`.
    slow_readers,
    /// Of `closed`, closed with 4008: nothing arrived within `ping_timeout`.
    ping_timeouts,
    /// Handshakes ended by `handshake_timeout`.
    handshake_timeouts,
    /// Connections ended before they sent their request, to make room for newer ones.
    handshakes_evicted,
    /// Connections refused before their request was read, as the descriptors had run out.
    refused_unread,
    /// Closing handshakes or refusals cut short by `close_timeout`.
    close_timeouts,
    /// Bytes received, WebSocket connections only.
    bytes_received,
    /// Frames received, control frames and fragments included.
    frames_received,
    /// Whole messages received.
    messages_received,
    /// Payload bytes of those.
    message_bytes_received,
    /// Messages refused because they passed `message_rate`.
    messages_refused,
    /// Of the whole messages, those that came compressed.
    messages_inflated,
    /// Bytes of compressed payload received.
    bytes_before_inflating,
    /// Bytes that those became.
    bytes_after_inflating,
    /// Messages queued, one for each recipient; not what the engine says by itself.
    messages_sent,
    /// Messages not queued because `max_send_buffer` waited, one for each recipient; only where
    /// `slow_reader` is "drop".
    messages_dropped,
    /// Payload bytes of those.
    message_bytes_dropped,
    /// Times that a message was compressed, once for all recipients with the same setting.
    messages_deflated,
    /// Payload bytes of those.
    bytes_before_deflating,
    /// Bytes that those became; the same again where they were not worth it.
    bytes_after_deflating,
    /// Of the messages queued, those that go out compressed.
    messages_sent_compressed,
    /// Bytes that those have less than they would have had.
    bytes_saved,
    /// Handshakes that agreed on compression.
    compression_agreed,
    /// Handshakes that offered compression, but in no way that can be accepted.
    compression_declined,
    /// Bytes written to sockets.
    bytes_sent,
    /// Writes that were made by `io_uring`, many with one system call.
    writes_together,
    /// Pings sent.
    pings_sent,
    /// Times that a client was not read for a while because recipients of what it had sent were
    /// behind, although they read.
    publishers_restrained,
    /// Recipients that nobody waits for any more: they stalled, or took too long.
    readers_given_up,
    /// Times that over three quarters of `max_memory` were held.
    memory_shortages,
    /// Connections not read for a while because of that, since they held much.
    memory_pauses,
    /// Connections of every kind that were ended to give memory back.
    closed_for_memory,
    /// TLS handshakes answered; each costs a signature, unless a ticket saves it.
    tls_handshakes,
    /// TLS that failed: before the handshake, in it, or behind it.
    tls_failures,
    /// Times that accepting paused because descriptors or memory ran out.
    accept_pauses,
}

impl Counters {
    /// A message of `len` bytes was queued as `compressed` ones.
    pub(super) fn note_compressed_sent(&mut self, len: usize, compressed: usize) {
        self.messages_sent_compressed += 1;
        self.bytes_saved += len.saturating_sub(compressed) as u64;
    }
}
