use std::os::unix::net::UnixStream;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_unix_socket_is_for_its_owner_from_the_first_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    // As `bind_unix` does it, up to the moment when the file is there.
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    fchmod(&socket, Mode::RUSR | Mode::WUSR).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    assert_eq!(mode(&path), 0o600, "nothing was set after it was bound");
    let other = folder.path().join("b.sock");
    let _listener = bind_unix(&other).unwrap();
    assert_eq!(mode(&other), 0o600);
}

#[test]
fn what_lies_at_the_path_of_a_unix_socket_stays_unless_it_is_one_that_nobody_listens_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let address = Address::Unix(path.clone());
    let why = || address.bind().unwrap_err().source.kind();

    fs::write(&path, "precious").unwrap();
    assert_eq!(why(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
    assert_eq!(why(), ErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();

    let first = address.bind().unwrap();
    assert_eq!(why(), ErrorKind::AddrInUse);
    UnixStream::connect(&path).unwrap();
    drop(first);
    let second = address.bind().unwrap();
    assert_eq!(second.address().unwrap(), address);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_goes_on_while_somebody_has_it() {
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let first = any.bind().unwrap();
    let address = first.address().unwrap();
    let descriptor = match first.share().unwrap() {
        Socket::Tcp(listener) => OwnedFd::from(listener),
        Socket::Unix(_) => unreachable!("it is bound to a socket address"),
    };
    drop(first);
    let adopted = Socket::adopt(descriptor).unwrap();
    assert_eq!(adopted.address().unwrap(), address);
    assert_eq!(address.bind().unwrap_err().source.kind(), ErrorKind::AddrInUse);
    drop(adopted);
    address.bind().unwrap();
}

#[test]
fn what_is_not_listened_on_is_not_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("a")).unwrap();
    let (end, _other) = UnixStream::pair().unwrap();
    let unbound = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    for descriptor in [OwnedFd::from(file), OwnedFd::from(end), OwnedFd::from(unbound)] {
        Socket::adopt(descriptor).unwrap_err();
    }
}
