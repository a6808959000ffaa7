use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn meeting(folder: &TempDir, within: Duration) -> Upgrade {
    Upgrade { socket: folder.path().join("meet/here.sock"), timeout: within }
}

fn sockets(count: usize) -> Vec<Socket> {
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    (0..count).map(|_| any.bind().unwrap()).collect()
}

fn addresses(sockets: &[Socket]) -> Vec<Address> {
    sockets.iter().map(|socket| socket.address().unwrap()).collect()
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn all_sockets_come_over_whoever_is_there_first() {
    for (count, old_first) in [(1, true), (3, false), (MOST_SOCKETS, true)] {
        let folder = tempfile::tempdir().unwrap();
        let (upgrade, old) = (meeting(&folder, LONG), sockets(count));
        let mut new = Vec::new();
        let taken = take_over(&upgrade, |sockets| {
            new = sockets;
            Ok(())
        });
        let handed = hand_over(&upgrade, &old);
        let (handed, taken) = match old_first {
            true => tokio::join!(handed, taken),
            false => {
                let (taken, handed) = tokio::join!(taken, handed);
                (handed, taken)
            }
        };
        handed.unwrap();
        taken.unwrap();
        let expected = addresses(&old);
        drop(old);
        assert_eq!(addresses(&new), expected);
        for (socket, address) in new.iter().zip(expected) {
            let (Socket::Tcp(listener), Address::Tcp(address)) = (socket, address) else { unreachable!("all are TCP") };
            let client = std::net::TcpStream::connect(address).unwrap();
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
        assert!(!upgrade.socket.exists());
    }
}

#[tokio::test]
async fn nothing_is_handed_over_when_the_new_one_fails_to_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let (upgrade, old) = (meeting(&folder, LONG), sockets(2));
    let fails = |_| Err(BindError { address: "a".to_owned(), source: ErrorKind::AddrInUse.into() });
    let (handed, taken) = tokio::join!(hand_over(&upgrade, &old), take_over(&upgrade, fails));
    assert!(matches!(taken, Err(TakeoverError::Bind(_))), "{taken:?}");
    assert!(matches!(handed, Err(TakeoverError::Io(_))), "{handed:?}");
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let upgrade = meeting(&folder, SHORT);
    let handed = hand_over(&upgrade, &sockets(1)).await;
    assert!(matches!(handed, Err(TakeoverError::Alone { .. })), "{handed:?}");
    let taken = take_over(&upgrade, |_| Ok(())).await;
    assert!(matches!(taken, Err(TakeoverError::Alone { .. })), "{taken:?}");
}

#[tokio::test]
async fn more_sockets_than_fit_are_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let handed = hand_over(&meeting(&folder, LONG), &sockets(MOST_SOCKETS + 1)).await;
    assert!(matches!(handed, Err(TakeoverError::TooMany { count: 254 })), "{handed:?}");
}

#[tokio::test]
async fn nobody_meets_where_others_could_come() {
    let folder = tempfile::tempdir().unwrap();
    let upgrade = meeting(&folder, SHORT);
    let place = folder.path().join("meet");
    let refused = async || {
        let taken = take_over(&upgrade, |_| Ok(())).await;
        let handed = hand_over(&upgrade, &[]).await;
        matches!(taken, Err(TakeoverError::Exposed { .. })) && matches!(handed, Err(TakeoverError::Exposed { .. }))
    };
    fs::create_dir(&place).unwrap();
    for bits in [0o755, 0o701, 0o770, 0o777] {
        fs::set_permissions(&place, Permissions::from_mode(bits)).unwrap();
        assert!(refused().await, "{bits:o}");
    }
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    assert!(!refused().await);
    // A link to a good one may be changed by whoever may change the folder that it is in.
    fs::rename(&place, folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &place).unwrap();
    assert!(refused().await);
}

#[tokio::test]
async fn what_is_said_in_another_way_is_not_understood() {
    let folder = tempfile::tempdir().unwrap();
    let upgrade = meeting(&folder, LONG);
    require_own_folder(&upgrade.socket).unwrap();
    let Socket::Unix(listener) = Address::Unix(upgrade.socket.clone()).bind().unwrap() else { unreachable!() };
    let listener = UnixListener::from_std(listener).unwrap();
    let stranger = async {
        let (mut other, _) = listener.accept().await.unwrap();
        other.write_all(b"portcullis 2 ready\n").await.unwrap();
        let mut sent = Vec::new();
        // What is closed with something unread in it may say so.
        let _ = other.read_to_end(&mut sent).await;
        sent
    };
    let (handed, sent) = tokio::join!(hand_over(&upgrade, &[]), stranger);
    assert!(matches!(handed, Err(TakeoverError::Language { .. })), "{handed:?}");
    assert!(sent.is_empty(), "{sent:?}");
}

#[tokio::test]
async fn a_message_that_does_not_fit_its_sockets_is_refused() {
    let listening = sockets(2);
    let not_listening = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let rows: [(&str, Vec<std::os::fd::BorrowedFd<'_>>); 6] = [
        ("portcullis 1 sockets 2\n", vec![listening[0].as_fd()]),
        ("portcullis 1 sockets 1\n", listening.iter().map(AsFd::as_fd).collect()),
        ("portcullis 1 sockets 1\n", vec![]),
        ("portcullis 2 sockets 1\n", vec![listening[0].as_fd()]),
        ("portcullis 1 sockets 1\n", vec![not_listening.as_fd()]),
        ("portcullis 1 sockets 01\n", vec![listening[0].as_fd()]),
    ];
    for (message, descriptors) in rows {
        let (one, other) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        sendmsg(&one, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::empty()).unwrap();
        let received = other.async_io(Interest::READABLE, || receive(&other)).await;
        assert!(!matches!(received, Ok(Some(_))), "{message}");
    }
    let (one, other) = UnixStream::pair().unwrap();
    send(&one, &listening).unwrap();
    let received = other.async_io(Interest::READABLE, || receive(&other)).await.unwrap().unwrap();
    assert_eq!(addresses(&received), addresses(&listening));
}
