// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <initializer_list>
#include <memory>

#include <openssl/types.h>

#include "base/bytes.hpp"
#include "base/secret.hpp"

/// OpenSSL behind owned handles and values. All integers of keys and signatures are big-endian here, as OpenSSL has them;
/// psp/ turns the SEV API's little-endian fields round. Every function throws Error{Fault::system} when OpenSSL fails for
/// its own reasons; a signature that does not verify is `false`, not an error.
namespace sev {

struct OpensslFree {
    void operator()(EVP_MD_CTX* p) const noexcept;
    void operator()(EVP_CIPHER_CTX* p) const noexcept;
    void operator()(EVP_MAC_CTX* p) const noexcept;
    void operator()(EVP_PKEY* p) const noexcept;
    void operator()(EVP_PKEY_CTX* p) const noexcept;
    void operator()(BIGNUM* p) const noexcept;
};
template <class Handle>
using Openssl = std::unique_ptr<Handle, OpensslFree>;

/// Running SHA-256. Move-only; `finish` may be called once.
class Sha256 {
public:
    Sha256();
    Sha256& update(ByteView bytes);
    Digest finish();

private:
    Openssl<EVP_MD_CTX> context_;
};
Digest sha256(ByteView bytes);
ByteArray<48> sha384(ByteView bytes);

/// HMAC-SHA-256 over the concatenation of `parts`.
Digest hmac_sha256(ByteView key, std::initializer_list<ByteView> parts);

/// AES-128-CTR; the initial counter block is `iv`, incremented as one 128-bit big-endian integer. `out` has the size of `in` and may be `in`.
void aes128_ctr(std::span<const std::uint8_t, 16> key, std::span<const std::uint8_t, 16> iv, ByteView in, std::span<std::uint8_t> out);

/// RAND_bytes; if it fails, stops: there is no fallback.
void random_bytes(std::span<std::uint8_t> out);
template <std::size_t Size>
ByteArray<Size> random_array() {
    ByteArray<Size> out{};
    random_bytes(out);
    return out;
}

/// Constant-time comparison of MACs and measurements; false when the sizes differ.
bool equal_in_constant_time(ByteView a, ByteView b);

enum class Hash { sha256, sha384 };
/// 32 or 48 bytes.
Bytes hash(Hash which, ByteView bytes);

/// A point on P-384, affine, big-endian.
struct P384Point {
    ByteArray<48> x{}, y{};
    friend bool operator==(const P384Point&, const P384Point&) = default;
};
/// ECDSA signature over P-384, big-endian.
struct P384Signature {
    ByteArray<48> r{}, s{};
    friend bool operator==(const P384Signature&, const P384Signature&) = default;
};

/// Whether the point satisfies the curve equation (and so has the group order: P-384 has cofactor 1) and is not infinity.
bool on_curve(const P384Point& point);

/// Verifies ECDSA over an already computed digest. False for a point off the curve, r or s of 0 or not below the group order.
bool ecdsa_verify(const P384Point& signer, ByteView digest, const P384Signature& signature);

/// P-384 private key. Move-only; OpenSSL wipes the scalar when it dies.
class P384Key {
public:
    static P384Key generate();
    /// `scalar` 48 bytes big-endian, 1 .. n-1. Throws Error{Fault::malformed} outside that range.
    static P384Key from_scalar(std::span<const std::uint8_t, 48> scalar);
    /// Reads DER: the traditional SEC1/RFC 5915 form or PKCS#8. Throws Error{Fault::malformed} when it is no P-384 private key.
    static P384Key from_der(ByteView der, std::string_view what);
    /// Reads PEM likewise (sev-tool's form).
    static P384Key from_pem(ByteView pem, std::string_view what);
    P384Key(P384Key&&) noexcept = default;
    P384Key& operator=(P384Key&&) noexcept = default;

    P384Point public_point() const;
    P384Signature sign(ByteView digest) const;
    /// x-coordinate of scalar · peer, 48 bytes big-endian, leading zeros kept. Throws Error{Fault::malformed} for a point off the curve.
    SecretBytes ecdh(const P384Point& peer) const;
    /// SEC1/RFC 5915 DER, as OpenSSL writes it with named curve and public key.
    SecretBytes to_der() const;
    SecretBytes scalar() const;

private:
    explicit P384Key(Openssl<EVP_PKEY> key);
    Openssl<EVP_PKEY> key_;
};

/// RSA public key, big-endian, of any leading-zero padding.
struct RsaPublicKey {
    Bytes modulus, exponent;
    friend bool operator==(const RsaPublicKey&, const RsaPublicKey&) = default;
};
/// RSA-PSS over an already computed digest; MGF1 with the same hash and a salt as long as the hash.
/// `signature` is big-endian and exactly as long as the modulus.
bool rsa_pss_verify(const RsaPublicKey& signer, Hash which, ByteView digest, ByteView signature);

/// RSA private key, public exponent 65537 (the emulated ARK and ASK).
class RsaKey {
public:
    static RsaKey generate(unsigned bits);
    static RsaKey from_der(ByteView der, std::string_view what);
    RsaKey(RsaKey&&) noexcept = default;
    RsaKey& operator=(RsaKey&&) noexcept = default;
    RsaPublicKey public_key() const;
    /// RSA-PSS, salt as long as the hash; as many bytes as the modulus, big-endian.
    Bytes sign_pss(Hash which, ByteView digest) const;
    SecretBytes to_der() const;

private:
    explicit RsaKey(Openssl<EVP_PKEY> key);
    Openssl<EVP_PKEY> key_;
};

} // namespace sev
