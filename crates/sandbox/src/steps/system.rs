//! What of the machine every program may read: its programs, libraries, certificates. Shared by the root and by Landlock.

/// Programs and libraries, read and execute. Links among them stay links.
pub(super) const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Settings that programs need and that hold no secret.
pub(super) const SETTINGS: [&str; 11] = [
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
];

/// How names are looked up in the machine's network.
pub(super) const NETWORK_SETTINGS: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/gai.conf", "/etc/services", "/etc/protocols"];

/// Devices that are no hardware.
pub(super) const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
