#!/usr/bin/env python3
"""Computes vectors.txt, the vectors of encrypted blobs in docs/protocol.md, without any code of linecard: HKDF, HMAC and SHA-256 by
Python's standard library, AES-256-CTR by the openssl command. Run it in this folder: ./vectors.py >vectors.txt"""
import hashlib, hmac, struct, subprocess

CHUNK = 65536


def hkdf(key, info, n):
    prk = hmac.new(bytes(32), key, hashlib.sha256).digest()
    okm, t, i = b"", b"", 1
    while len(okm) < n:
        t = hmac.new(prk, t + info + bytes([i]), hashlib.sha256).digest()
        okm, i = okm + t, i + 1
    return okm[:n]


def ctr(key, data):
    """The whole file in one go: the counter starts at 0 and counts on over the chunks."""
    if not data:
        return b""
    cmd = ["openssl", "enc", "-aes-256-ctr", "-nosalt", "-K", key.hex(), "-iv", "00" * 16]
    return subprocess.run(cmd, input=data, stdout=subprocess.PIPE, check=True).stdout


def uvarint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, content):
    return bytes([number]) + uvarint(len(content)) + content


def blob(key, plain):
    okm = hkdf(key, b"linecard media 1", 64)
    enc, mac = okm[:32], okm[32:]
    sealed, tags, out = ctr(enc, plain), [], b""
    count = max(1, -(-len(plain) // CHUNK))
    for n in range(count):
        part = sealed[n * CHUNK:(n + 1) * CHUNK]
        tag = hmac.new(mac, struct.pack(">QB", n, n == count - 1) + part, hashlib.sha256).digest()
        out += part + tag
        tags.append(tag)
    return enc, mac, tags, out


def main():
    key = bytes(range(0x20, 0x40))
    print("# The file of SIZE bytes is the bytes 0 to 250 over and over. All are under one key here, which nobody should do otherwise.")
    print("media_key", key.hex())
    enc, mac, _, _ = blob(key, b"")
    print("encryption_key", enc.hex())
    print("tag_key", mac.hex())
    for size in (0, 20, 65536, 65537, 150000):
        plain = (bytes(range(251)) * (size // 251 + 1))[:size]
        _, _, tags, out = blob(key, plain)
        print(f"# A file of {size} bytes in {len(tags)} chunk{'s' if len(tags) > 1 else ''}, a blob of {len(out)}.")
        print("file_sha256", hashlib.sha256(plain).hexdigest())
        if len(out) < 100:
            print("blob", out.hex())
        else:
            for n, tag in enumerate(tags):
                print(f"tag_{n}", tag.hex())
        print("blob_sha256", hashlib.sha256(out).hexdigest())
        if size == 20:
            name = hashlib.sha256(out).digest()
            pointer = name + key + uvarint(size) + field(1, b"count.bin") + field(2, b"application/octet-stream") \
                + field(3, b"tiny") + field(4, "zwanzig, fünf".encode())
            print("pointer", pointer.hex())
            handle = lambda h: bytes([len(h)]) + h
            payload = b"\x01\x02" + uvarint(1800000000123) + handle(b"alice") + handle(b"bob") + pointer
            print("payload", payload.hex())


main()
