//! What Kubernetes puts into WebSocket messages: a channel's number, then bytes; in the base64 variants a digit, then text. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::status::Form;

/// A subprotocol of `channel.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subprotocol {
    /// As clients name it.
    pub name: &'static str,
    encoding: Encoding,
    /// How the end is told.
    pub(super) form: Form,
    /// The client can end a channel (v5).
    half_close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Binary,
    Base64,
}

/// In front of the number of a channel that the client ends.
const END: u8 = 255;

const fn subprotocol(name: &'static str, encoding: Encoding, form: Form) -> Subprotocol {
    Subprotocol { name, encoding, form, half_close: false }
}

/// For clients that name none.
pub(super) const UNNAMED: Subprotocol = subprotocol("", Encoding::Binary, Form::Text);
/// What exec and attach are spoken in.
pub const SESSION: [Subprotocol; 5] = [
    Subprotocol { half_close: true, ..subprotocol("v5.channel.k8s.io", Encoding::Binary, Form::Json) },
    subprotocol("v4.channel.k8s.io", Encoding::Binary, Form::Json),
    subprotocol("v4.base64.channel.k8s.io", Encoding::Base64, Form::Json),
    subprotocol("channel.k8s.io", Encoding::Binary, Form::Text),
    subprotocol("base64.channel.k8s.io", Encoding::Base64, Form::Text),
];
/// What port-forward is spoken in, without a tunnel.
pub const PORT_FORWARD: [Subprotocol; 2] = [
    subprotocol("v4.channel.k8s.io", Encoding::Binary, Form::Text),
    subprotocol("v4.base64.channel.k8s.io", Encoding::Base64, Form::Text),
];
/// Port-forward over SPDY/3.1 inside binary messages.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Bytes for a channel.
    Data(u8, Bytes),
    /// A channel gets no more.
    End(u8),
}

/// What a message carries.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// In a binary message: the channel's number, and what follows it.
    Binary([u8; 1], Bytes),
    /// In a text message.
    Text(String),
}

impl Subprotocol {
    /// Whether all of a message that begins with this byte is for the channel of that number: it needs not be whole to be read.
    pub(super) fn is_all_for(&self, first: u8) -> bool {
        self.encoding == Encoding::Binary && !(self.half_close && first == END)
    }

    /// Reads a message's payload; None when it is none.
    pub fn read(&self, payload: &Bytes) -> Option<Said> {
        match (self.encoding, *payload.first()?) {
            (Encoding::Binary, END) if self.half_close => match payload.as_ref() {
                [_, channel] => Some(Said::End(*channel)),
                _ => None,
            },
            (Encoding::Binary, channel) => Some(Said::Data(channel, payload.slice(1..))),
            (Encoding::Base64, digit) => {
                let channel = digit.checked_sub(b'0').filter(|channel| *channel <= 9)?;
                Some(Said::Data(channel, STANDARD.decode(&payload[1..]).ok()?.into()))
            }
        }
    }

    /// A message's payload.
    pub fn write(&self, channel: u8, bytes: Bytes) -> Payload {
        match self.encoding {
            Encoding::Binary => Payload::Binary([channel], bytes),
            Encoding::Base64 => {
                let mut text = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
                text.push(char::from(b'0'.saturating_add(channel)));
                STANDARD.encode_string(bytes, &mut text);
                Payload::Text(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V5: Subprotocol = SESSION[0];
    const V4: Subprotocol = SESSION[1];
    const V4_BASE64: Subprotocol = SESSION[2];

    #[test]
    fn the_first_byte_is_the_channel() {
        assert_eq!(V4.read(&Bytes::from_static(b"\x00ls\n")), Some(Said::Data(0, Bytes::from_static(b"ls\n"))));
        assert_eq!(V4.read(&Bytes::from_static(b"\x04")), Some(Said::Data(4, Bytes::new())));
        assert_eq!(V4.read(&Bytes::new()), None);
        assert_eq!(V4_BASE64.read(&Bytes::from_static(b"0bHMK")), Some(Said::Data(0, Bytes::from_static(b"ls\n"))));
    }

    #[test]
    fn only_the_fifth_version_ends_channels() {
        let end = Bytes::from_static(&[255, 0]);
        assert_eq!(V5.read(&end), Some(Said::End(0)));
        assert_eq!(V4.read(&end), Some(Said::Data(255, Bytes::from_static(&[0]))));
        assert_eq!(V5.read(&Bytes::from_static(&[255])), None);
        assert_eq!(V5.read(&Bytes::from_static(&[255, 0, 0])), None);
    }

    #[test]
    fn what_is_not_base64_is_no_message() {
        for wrong in ["x", "/aa", ":aa", "0!", "0a", "0bHMK="] {
            assert_eq!(V4_BASE64.read(&Bytes::from(wrong)), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(channel in 0u8..10, bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0usize..5) {
            let payload = match SESSION[which].write(channel, bytes.clone().into()) {
                Payload::Binary(channel, bytes) => [&channel[..], &bytes].concat(),
                Payload::Text(text) => text.into_bytes(),
            };
            prop_assert_eq!(SESSION[which].read(&payload.into()), Some(Said::Data(channel, bytes.into())));
        }

        #[test]
        fn nothing_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..100), which in 0usize..5) {
            SESSION[which].read(&payload.into());
        }
    }
}
