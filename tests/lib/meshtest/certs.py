"""A small certificate authority for tests, with the openssl command: root, leaves with SPIFFE or DNS names."""
import base64
import hashlib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Leaf:
    cert: Path
    key: Path


class Pki:
    def __init__(self, folder, name="test root"):
        self.dir = Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.root_cert, self.root_key = self.dir / "root.pem", self.dir / "root-key.pem"
        if not self.root_cert.exists():
            self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                         "-subj", f"/O={name}", "-keyout", self.root_key, "-out", self.root_cert,
                         "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def openssl(self, *args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)

    def leaf(self, name, uri=None, dns=(), days=10, start=None, alt=()):
        """A certificate called `name`; uri is its SPIFFE identity, alt other names ("IP:10.1.2.3"). days <= 0 makes an expired one."""
        leaf = Leaf(self.dir / f"{name}.pem", self.dir / f"{name}-key.pem")
        if leaf.cert.exists():
            return leaf
        names = [f"URI:{uri or 'spiffe://cluster.local/ns/default/sa/' + name}"] + [f"DNS:{d}" for d in dns] + list(alt)
        ext, csr = self.dir / f"{name}.ext", self.dir / f"{name}.csr"
        ext.write_text("subjectAltName=critical," + ",".join(names) + "\nextendedKeyUsage=serverAuth,clientAuth\n"
                       "keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n")
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/O={name}",
                     "-keyout", leaf.key, "-out", csr)
        when = ["-days", str(days)]
        if days <= 0:
            # x509 -days takes no negative span before OpenSSL 3.4: `ca` with dates does.
            return self._dated(csr, ext, leaf)
        self.openssl("x509", "-req", "-in", csr, "-CA", self.root_cert, "-CAkey", self.root_key, "-CAcreateserial",
                     "-extfile", ext, "-out", leaf.cert, *when)
        return leaf

    def _ca_config(self, name):
        """A file for `openssl ca`, with a database of its own that is empty."""
        conf, index, serial = (self.dir / f"{name}.{ext}" for ext in ("cnf", "index", "serial"))
        index.write_text("")
        serial.write_text("1000\n")
        conf.write_text(f"[ca]\ndefault_ca=d\n[d]\ndir={self.dir}\ndatabase={index}\nserial={serial}\n"
                        f"new_certs_dir={self.dir}\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\norganizationName=supplied\n")
        return ["-config", conf, "-cert", self.root_cert, "-keyfile", self.root_key]

    def _dated(self, csr, ext, leaf):
        self.openssl("ca", "-batch", *self._ca_config("ca"), "-in", csr,
                     "-out", leaf.cert, "-extfile", ext, "-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-notext")
        return leaf

    def crl(self, name, *revoked):
        """A list of this root in NAME.crl that revokes these leaves."""
        ca, out = self._ca_config(name), self.dir / f"{name}.crl"
        for leaf in revoked:
            self.openssl("ca", *ca, "-revoke", leaf.cert)
        self.openssl("ca", *ca, "-gencrl", "-crldays", "10", "-out", out)
        return out

    def pins(self, name):
        """{"hash-NAME", "spki-NAME"} of a leaf, as verify_certificate_hash and verify_certificate_spki want them."""
        cert = self.dir / f"{name}.pem"
        der = ssl.PEM_cert_to_DER_cert(cert.read_text())
        pem = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-pubkey"], check=True, capture_output=True, text=True).stdout
        key = base64.b64decode("".join(pem.splitlines()[1:-1]))
        return {f"hash-{name}": hashlib.sha256(der).hexdigest(),
                f"spki-{name}": base64.b64encode(hashlib.sha256(key).digest()).decode()}
