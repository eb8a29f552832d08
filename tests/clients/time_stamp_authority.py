"""A time-stamping authority (RFC 3161) on this machine, until it is stopped.

Usage: time_stamp_authority.py ROOT.pem [PORT]. Writes the certificate of its root to ROOT.pem, which is another at each
start, and prints its address; without PORT it takes a free one. The path of a request is `/good`, or says what to do wrong:
`/other` stamps something else than was asked for, `/garbage` answers what is no time stamp, `/refuse` refuses in the way of
the protocol, `/fail` answers with status 500, `/mail` signs with a certificate for mail, `/expired` with one that ran out,
`/forged` with one that somebody issued who is no authority.
"""

import datetime
import hashlib
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

POLICY = "1.3.6.1.4.1.99999.1"


def name(text):
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Time for tests")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, extensions, age=datetime.timedelta(days=1)):
    start = datetime.datetime.now(datetime.timezone.utc) - age
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=365))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def usage(**allowed):
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{one: allowed.get(one, False) for one in every})


class Authority:
    def __init__(self):
        root_key, self.key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.root = certificate("Root", root_key, "Root", root_key, [
            (x509.BasicConstraints(ca=True, path_length=0), True), (usage(key_cert_sign=True, crl_sign=True), True)])
        self.own = certificate("Stamps", self.key, "Root", root_key, self.leaf(ExtendedKeyUsageOID.TIME_STAMPING))
        mail = self.leaf(ExtendedKeyUsageOID.EMAIL_PROTECTION)
        holder_key = ec.generate_private_key(ec.SECP256R1())
        holder = certificate("Holder", holder_key, "Root", root_key, mail)
        stamps = self.leaf(ExtendedKeyUsageOID.TIME_STAMPING)
        years = datetime.timedelta(days=800)
        self.wrong = {
            "mail": [certificate("Mail", self.key, "Root", root_key, mail), self.root],
            "expired": [certificate("Stamps", self.key, "Root", root_key, stamps, years), self.root],
            "forged": [certificate("Stamps", self.key, "Holder", holder_key, stamps), holder, self.root],
        }

    @staticmethod
    def leaf(purpose):
        return [(x509.BasicConstraints(ca=False, path_length=None), True), (usage(digital_signature=True), True),
                (x509.ExtendedKeyUsage([purpose]), True)]

    def answer(self, mode, request):
        if mode == "garbage":
            return b"not a time stamp"
        if mode == "refuse":
            # A status of two, rejection, and no token.
            return bytes.fromhex("30053003020102")
        token = self.token(mode, tsp.TimeStampReq.load(request))
        return tsp.TimeStampResp({"status": tsp.PKIStatusInfo({"status": "granted"}), "time_stamp_token": token}).dump()

    def token(self, mode, request):
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        imprint = request["message_imprint"]
        if mode == "other":
            imprint = tsp.MessageImprint({"hash_algorithm": imprint["hash_algorithm"], "hashed_message": bytes(32)})
        info = {"version": "v1", "policy": POLICY, "message_imprint": imprint, "serial_number": secrets.randbits(64),
                "gen_time": now}
        if request["nonce"].native is not None:
            info["nonce"] = request["nonce"]
        content = tsp.TSTInfo(info).dump()
        chain = [asn1_x509.Certificate.load(one.public_bytes(serialization.Encoding.DER))
                 for one in self.wrong.get(mode, [self.own, self.root])]
        own = chain[0]
        sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
        reference = tsp.SigningCertificateV2({"certs": [tsp.ESSCertIDv2({
            "hash_algorithm": sha256, "cert_hash": hashlib.sha256(own.dump()).digest()})]})
        attributes = cms.CMSAttributes([
            cms.CMSAttribute({"type": "content_type", "values": ["tst_info"]}),
            cms.CMSAttribute({"type": "signing_time", "values": [cms.Time({"utc_time": core.UTCTime(now)})]}),
            cms.CMSAttribute({"type": "message_digest", "values": [hashlib.sha256(content).digest()]}),
            cms.CMSAttribute({"type": "signing_certificate_v2", "values": [reference]}),
        ])
        signature = self.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
        signer = cms.SignerInfo({
            "version": "v1",
            "sid": cms.SignerIdentifier({"issuer_and_serial_number": cms.IssuerAndSerialNumber(
                {"issuer": own.issuer, "serial_number": own.serial_number})}),
            "digest_algorithm": sha256,
            "signed_attrs": attributes,
            "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
            "signature": signature,
        })
        data = cms.SignedData({
            "version": "v3",
            "digest_algorithms": [sha256],
            "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(content)},
            "certificates": [cms.CertificateChoices("certificate", one) for one in chain],
            "signer_infos": [signer],
        })
        return cms.ContentInfo({"content_type": "signed_data", "content": data})


def main(root, port="0"):
    authority = Authority()
    with open(root, "wb") as file:
        file.write(authority.root.public_bytes(serialization.Encoding.PEM))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = self.rfile.read(int(self.headers["content-length"]))
            right = self.headers["content-type"] == "application/timestamp-query"
            mode = self.path.strip("/")
            status = 500 if mode == "fail" else 200 if right else 415
            body = authority.answer(mode, asked) if status == 200 else b""
            self.send_response(status)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
