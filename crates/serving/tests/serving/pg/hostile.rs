//! What a stranger may send: half messages, huge lengths, old versions, noise. The server answers or hangs up, in time,
//! and goes on with the others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::*;

/// Sends bytes and closes this direction; everything that came back until the server hung up.
fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may hang up before it has read all.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer
}

fn message(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [kind, &length, body].concat()
}

fn startup() -> Vec<u8> {
    message(b"", b"\0\x03\0\0user\0anna\0\0")
}

fn has_error(answer: &[u8], code: &str) -> bool {
    let wanted = [b"C", code.as_bytes(), b"\0"].concat();
    answer.windows(wanted.len()).any(|part| part == wanted)
}

#[test]
fn bytes_of_strangers_do_no_harm() {
    let site = Site::start();
    let to = site.address();
    // Half of a first message, and half of one after it.
    let whole = [startup(), message(b"Q", b"select 1\0")].concat();
    for end in 0..whole.len() {
        send(to, &whole[..end]);
    }
    let answer = send(to, &whole);
    assert!(answer.ends_with(b"Z\0\0\0\x05I"), "{answer:?}");
    for (first, code) in [
        (message(b"", b"\0\x02\0\0user\0anna\0\0"), "0A000"),
        (message(b"", b"\0\x09\0\0"), "0A000"),
        (message(b"", b"\0\x03\0\0\0"), "28000"),
        (message(b"", b"\0\x03\0\0user\0"), "08P01"),
        (b"\x7f\xff\xff\xff\0\x03\0\0".to_vec(), "54000"),
        (b"\xff\xff\xff\xff\0\x03\0\0".to_vec(), "08P01"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "54000"),
        ([[0, 0, 0, 8, 4, 210, 22, 47].repeat(9), startup()].concat(), "08P01"),
    ] {
        let answer = send(to, &first);
        assert!(has_error(&answer, code), "{code}: {}", String::from_utf8_lossy(&answer));
    }
    // After it was let in.
    for (then, code) in [
        (b"Q\x7f\xff\xff\xff".to_vec(), "54000"),
        (b"Q\0\0\0\0".to_vec(), "08P01"),
        (b"Q\xff\xff\xff\xff".to_vec(), "08P01"),
        (message(b"Q", b"no end"), "08P01"),
        (message(b"Q", b"\xff\xfe\0"), "22021"),
        (message(b"z", b""), "08P01"),
        (message(b"B", b"\0\0\xff\xff"), "08P01"),
        (message(b"P", b"\0select 1\0\xff\xff"), "08P01"),
        (message(b"D", b"X\0"), "08P01"),
        (message(b"p", b"password\0"), "08P01"),
        (message(b"F", b"\0\0\0\0"), "0A000"),
        (message(b"E", b"nowhere\0\0\0\0\0"), "34000"),
        (message(b"B", b"\0nowhere\0\0\0\0\0\0\0"), "26000"),
        (message(b"Q", &[b"select '".as_slice(), &[b'x'; 70_000], b"'\0"].concat()), "54001"),
    ] {
        let answer = send(to, &[startup(), then.clone(), message(b"S", b"")].concat());
        assert!(has_error(&answer, code), "{code} {then:?}: {}", String::from_utf8_lossy(&answer));
    }
    run(async {
        let client = connect(to).await;
        assert_eq!(client.query("select count(*) from atomic.events", &[]).await.unwrap().len(), 1);
    });
    site.stop();
}

#[test]
fn noise_does_no_harm() {
    let site = Site::start();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = move || {
        // xorshift: the same noise in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    for round in 0..300 {
        let length = usize::from(byte()) + 1;
        let mut bytes: Vec<u8> = (0..length).map(|_| byte()).collect();
        match round % 4 {
            0 => {}
            // Noise behind a startup, as it is, and in messages of every kind.
            1 => bytes = [startup(), bytes].concat(),
            _ => {
                let kinds = b"QPBDECHSdcfpF";
                let kind = kinds[usize::from(byte()) % kinds.len()];
                bytes = [startup(), message(&[kind], &bytes), message(b"S", b"")].concat();
            }
        }
        send(site.address(), &bytes);
    }
    run(async {
        assert_eq!(connect(site.address()).await.query("select 1", &[]).await.unwrap().len(), 1);
    });
    site.stop();
}

#[test]
fn strangers_who_say_nothing_do_not_keep_others_out() {
    let site = Site::start();
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(site.address()).unwrap()).collect();
    run(async {
        assert_eq!(connect(site.address()).await.query("select 1", &[]).await.unwrap().len(), 1);
    });
    drop(silent);
    site.stop();
}

#[test]
fn a_stranger_who_says_nothing_is_hung_up_on() {
    let site = Site::start();
    let mut silent = TcpStream::connect(site.address()).unwrap();
    silent.write_all(&startup()[..10]).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(silent.read(&mut [0; 10]).unwrap(), 0, "an answer to half a message");
    assert!(started.elapsed() > Duration::from_secs(5), "it has ten seconds");
    site.stop();
}
