"""hpack.py - header blocks of HTTP/2 (RFC 7541) by libnghttp2, through ctypes.

The library is there because the daemon links it.  Nothing of its HTTP/2
session is used: only the two tables of a connection.
"""
import ctypes
import ctypes.util

FLAG_FINAL, FLAG_EMIT = 1, 2            # enum nghttp2_hd_inflate_flag
NO_INDEX = 1                            # NGHTTP2_NV_FLAG_NO_INDEX


class Error(Exception):
    pass


class _Pair(ctypes.Structure):          # nghttp2_nv
    _fields_ = [("name", ctypes.c_void_p), ("value", ctypes.c_void_p), ("namelen", ctypes.c_size_t),
                ("valuelen", ctypes.c_size_t), ("flags", ctypes.c_uint8)]


def _library():
    for name in ("libnghttp2.so.14", ctypes.util.find_library("nghttp2")):
        try:
            lib = name and ctypes.CDLL(name)
        except OSError:
            continue
        if lib:
            lib.nghttp2_hd_deflate_hd.restype = ctypes.c_ssize_t
            lib.nghttp2_hd_deflate_bound.restype = ctypes.c_size_t
            lib.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
            return lib
    raise ImportError("libnghttp2 is not installed")


_lib = _library()


class Encoder:
    def __init__(self):
        self.p = ctypes.c_void_p()
        if _lib.nghttp2_hd_deflate_new(ctypes.byref(self.p), ctypes.c_size_t(4096)):
            raise MemoryError

    def __del__(self):
        _lib.nghttp2_hd_deflate_del(self.p)

    def encode(self, headers):
        """headers: (name, value) pairs of bytes or str."""
        pairs = (_Pair * len(headers))()
        keep = []
        for pair, (name, value) in zip(pairs, headers):
            texts = [x if isinstance(x, bytes) else x.encode() for x in (name, value)]
            buffers = [ctypes.create_string_buffer(x, len(x) or 1) for x in texts]
            keep += buffers
            pair.name, pair.value = (ctypes.addressof(b) for b in buffers)
            pair.namelen, pair.valuelen = (len(x) for x in texts)
        size = ctypes.c_size_t(_lib.nghttp2_hd_deflate_bound(self.p, pairs, ctypes.c_size_t(len(headers))))
        out = ctypes.create_string_buffer(size.value or 1)
        n = _lib.nghttp2_hd_deflate_hd(self.p, out, size, pairs, ctypes.c_size_t(len(headers)))
        if n < 0:
            raise Error("nghttp2_hd_deflate_hd: %d" % n)
        return out.raw[:n]


class Decoder:
    def __init__(self):
        self.p = ctypes.c_void_p()
        if _lib.nghttp2_hd_inflate_new(ctypes.byref(self.p)):
            raise MemoryError

    def __del__(self):
        _lib.nghttp2_hd_inflate_del(self.p)

    def decode(self, block):
        """(name, value, never indexed) of each header; str."""
        out = []
        data = ctypes.create_string_buffer(block, len(block) or 1)
        at, end = 0, len(block)
        while True:
            pair, flags = _Pair(), ctypes.c_int()
            n = _lib.nghttp2_hd_inflate_hd2(self.p, ctypes.byref(pair), ctypes.byref(flags),
                                            ctypes.c_void_p(ctypes.addressof(data) + at),
                                            ctypes.c_size_t(end - at), 1)
            if n < 0:
                raise Error("a header block that is no good: %d" % n)
            at += n
            if flags.value & FLAG_EMIT:
                name = ctypes.string_at(pair.name, pair.namelen).decode("latin-1")
                value = ctypes.string_at(pair.value, pair.valuelen).decode("latin-1")
                out.append((name, value, bool(pair.flags & NO_INDEX)))
            if flags.value & FLAG_FINAL:
                _lib.nghttp2_hd_inflate_end_headers(self.p)
                return out
            if not flags.value & FLAG_EMIT and at >= end:
                raise Error("a header block that is cut off")
