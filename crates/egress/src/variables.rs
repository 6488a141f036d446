//! The variables by which programs find the proxy and the authorities that they are to believe.

use std::path::Path;

use domain::ports::egress::PROXY_PORT;

const PROXY: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
];

/// Java reads no variable for a proxy, and its `JAVA_TOOL_OPTIONS` makes every program print a line: only what fetches packages
/// is told.
const JAVA: [&str; 3] = ["GRADLE_OPTS", "MAVEN_OPTS", "SBT_OPTS"];

/// Read by a program (or its library) instead of the system's file. Java has none: it believes only the servers' own.
const CERTIFICATES: [&str; 16] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "BUNDLE_SSL_CA_CERT",
    "COMPOSER_CAFILE",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HEX_CACERTS_PATH",
    "NIX_SSL_CERT_FILE",
    "YARN_HTTPS_CA_FILE_PATH",
    "npm_config_cafile",
];

/// `bundle`: the file of authorities, where the gate ends TLS.
pub(crate) fn of(bundle: Option<&Path>) -> Vec<(String, String)> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let java = format!(
        "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort={PROXY_PORT} -Dhttps.proxyHost=127.0.0.1 \
         -Dhttps.proxyPort={PROXY_PORT} -Daether.connector.http.useSystemProperties=true \
         -Daether.transport.apache.useSystemProperties=true"
    );
    let bundle = bundle.map(|path| path.to_string_lossy().into_owned());
    let all = |names: &'static [&'static str], value: &str| {
        let value = value.to_owned();
        names.iter().map(move |name| ((*name).to_owned(), value.clone()))
    };
    all(&PROXY, &proxy)
        .chain(all(&["NO_PROXY", "no_proxy"], "localhost,127.0.0.1,::1"))
        // Node's own `fetch` reads the variables above only if it is told to.
        .chain(all(&["NODE_USE_ENV_PROXY"], "1"))
        // npm would report what is installed, by a POST that no entry for fetching allows.
        .chain(all(&["npm_config_audit"], "false"))
        .chain(all(&JAVA, &java))
        .chain(bundle.iter().flat_map(|bundle| all(&CERTIFICATES, bundle)))
        .collect()
}
