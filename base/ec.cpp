// SPDX-License-Identifier: Apache-2.0
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/encoder.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>

#include <fmt/format.h>

#include "base/openssl.hpp"

namespace sev {

using openssl::failed;
using openssl::must;
using openssl::owned;

namespace {

struct EcFree {
    void operator()(EC_POINT* p) const noexcept { EC_POINT_free(p); }
    void operator()(ECDSA_SIG* p) const noexcept { ECDSA_SIG_free(p); }
    void operator()(OSSL_PARAM_BLD* p) const noexcept { OSSL_PARAM_BLD_free(p); }
    void operator()(OSSL_PARAM* p) const noexcept { OSSL_PARAM_free(p); } // clears what OSSL_PARAM_BLD took as secure
    void operator()(OSSL_ENCODER_CTX* p) const noexcept { OSSL_ENCODER_CTX_free(p); }
    void operator()(OSSL_DECODER_CTX* p) const noexcept { OSSL_DECODER_CTX_free(p); }
};
template <class Handle>
using Ec = std::unique_ptr<Handle, EcFree>;

constexpr std::size_t uncompressed_size = 97;

ByteArray<uncompressed_size> uncompressed(const P384Point& point) {
    ByteArray<uncompressed_size> out{POINT_CONVERSION_UNCOMPRESSED};
    std::ranges::copy(point.x, out.begin() + 1);
    std::ranges::copy(point.y, out.begin() + 49);
    return out;
}

const EC_GROUP* p384() {
    static const EC_GROUP* const group = [] {
        EC_GROUP* made = EC_GROUP_new_by_curve_name(NID_secp384r1);
        if (!made) failed("EC_GROUP_new_by_curve_name");
        return made;
    }();
    return group;
}

Openssl<BIGNUM> bignum(ByteView big_endian) {
    return owned(BN_bin2bn(big_endian.data(), static_cast<int>(big_endian.size()), nullptr), "BN_bin2bn");
}

ByteArray<48> bytes48(const BIGNUM* number) {
    ByteArray<48> out{};
    if (BN_bn2binpad(number, out.data(), 48) != 48) failed("BN_bn2binpad");
    return out;
}

/// nullptr for a point that is not on the curve; EVP_PKEY_fromdata checks the equation when it decodes the point.
Openssl<EVP_PKEY> try_public_key(const P384Point& point) {
    auto encoded = uncompressed(point);
    std::string group = SN_secp384r1;
    const std::array<OSSL_PARAM, 3> params{
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), group.size()),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, encoded.data(), encoded.size()), OSSL_PARAM_construct_end()};
    const auto context = owned(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr), "EVP_PKEY_CTX_new_from_name");
    must(EVP_PKEY_fromdata_init(context.get()), "EVP_PKEY_fromdata_init");
    EVP_PKEY* key = nullptr;
    if (EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, const_cast<OSSL_PARAM*>(params.data())) != 1) {
        ERR_clear_error();
        return nullptr;
    }
    return Openssl<EVP_PKEY>{key};
}

Openssl<EVP_PKEY> private_key(const BIGNUM* scalar, const P384Point& public_point) {
    const Ec<OSSL_PARAM_BLD> builder{OSSL_PARAM_BLD_new()};
    const auto encoded = uncompressed(public_point);
    if (!builder) failed("OSSL_PARAM_BLD_new");
    must(OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, SN_secp384r1, 0), "OSSL_PARAM_BLD_push_utf8_string");
    must(OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, encoded.data(), encoded.size()),
         "OSSL_PARAM_BLD_push_octet_string");
    must(OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, scalar), "OSSL_PARAM_BLD_push_BN");
    const Ec<OSSL_PARAM> params{OSSL_PARAM_BLD_to_param(builder.get())};
    if (!params) failed("OSSL_PARAM_BLD_to_param");
    // OSSL_PARAM_free clears only what came from a secure heap, so the scalar's copy is wiped here whatever happens
    struct Wipe {
        OSSL_PARAM* params;
        ~Wipe() {
            OSSL_PARAM* scalar_copy = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_PRIV_KEY);
            if (scalar_copy) OPENSSL_cleanse(scalar_copy->data, scalar_copy->data_size);
        }
    } wipe{params.get()};
    const auto context = owned(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr), "EVP_PKEY_CTX_new_from_name");
    must(EVP_PKEY_fromdata_init(context.get()), "EVP_PKEY_fromdata_init");
    EVP_PKEY* key = nullptr;
    must(EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_KEYPAIR, params.get()), "EVP_PKEY_fromdata");
    return Openssl<EVP_PKEY>{key};
}

/// DER ECDSA-Sig-Value of r and s; nullopt never: any 48-byte values encode.
Bytes signature_to_der(const P384Signature& signature) {
    const Ec<ECDSA_SIG> pair{ECDSA_SIG_new()};
    if (!pair) failed("ECDSA_SIG_new");
    must(ECDSA_SIG_set0(pair.get(), bignum(signature.r).release(), bignum(signature.s).release()), "ECDSA_SIG_set0");
    unsigned char* der = nullptr;
    const int length = i2d_ECDSA_SIG(pair.get(), &der);
    if (length <= 0) failed("i2d_ECDSA_SIG");
    Bytes out(der, der + length);
    OPENSSL_free(der);
    return out;
}

Openssl<EVP_PKEY> decode_private(ByteView text, const char* form, std::string_view what) {
    EVP_PKEY* key = nullptr;
    const Ec<OSSL_DECODER_CTX> decoder{OSSL_DECODER_CTX_new_for_pkey(&key, form, nullptr, "EC", EVP_PKEY_KEYPAIR, nullptr, nullptr)};
    if (!decoder) failed("OSSL_DECODER_CTX_new_for_pkey");
    // Without this an encrypted PEM would ask for its pass phrase on the terminal.
    must(OSSL_DECODER_CTX_set_passphrase(decoder.get(), reinterpret_cast<const unsigned char*>(""), 0), "OSSL_DECODER_CTX_set_passphrase");
    const unsigned char* at = text.data();
    std::size_t left = text.size();
    const bool decoded = OSSL_DECODER_from_data(decoder.get(), &at, &left) == 1;
    ERR_clear_error();
    Openssl<EVP_PKEY> owned_key{key};
    if (!decoded || !owned_key) throw Error{Fault::malformed, fmt::format("{}: no EC private key in {} form", what, form)};
    if (left != 0 && form == std::string_view{"DER"})
        throw Error{Fault::malformed, fmt::format("{}: {} bytes after the private key, want none", what, left)};
    std::array<char, 64> group{};
    std::size_t length = 0;
    if (EVP_PKEY_get_group_name(owned_key.get(), group.data(), group.size(), &length) != 1 || std::string_view{group.data()} != SN_secp384r1)
        throw Error{Fault::malformed, fmt::format("{}: curve is {}, want {} (P-384)", what, group[0] ? group.data() : "unnamed", SN_secp384r1)};
    const auto check = openssl::owned(EVP_PKEY_CTX_new(owned_key.get(), nullptr), "EVP_PKEY_CTX_new");
    const bool consistent = EVP_PKEY_check(check.get()) == 1;
    ERR_clear_error();
    if (!consistent) throw Error{Fault::malformed, fmt::format("{}: private and public key do not belong together", what)};
    return owned_key;
}

} // namespace

bool on_curve(const P384Point& point) {
    const Ec<EC_POINT> made{EC_POINT_new(p384())};
    if (!made) failed("EC_POINT_new");
    const auto encoded = uncompressed(point);
    const bool on = EC_POINT_oct2point(p384(), made.get(), encoded.data(), encoded.size(), nullptr) == 1;
    ERR_clear_error();
    return on;
}

bool ecdsa_verify(const P384Point& signer, ByteView digest, const P384Signature& signature) {
    const auto key = try_public_key(signer);
    if (!key) return false;
    const Bytes der = signature_to_der(signature);
    const auto context = owned(EVP_PKEY_CTX_new(key.get(), nullptr), "EVP_PKEY_CTX_new");
    must(EVP_PKEY_verify_init(context.get()), "EVP_PKEY_verify_init");
    const int result = EVP_PKEY_verify(context.get(), der.data(), der.size(), digest.data(), digest.size());
    ERR_clear_error();
    return result == 1;
}

P384Key::P384Key(Openssl<EVP_PKEY> key) : key_{std::move(key)} {}

P384Key P384Key::generate() { return P384Key{owned(EVP_EC_gen(SN_secp384r1), "EVP_EC_gen")}; }

P384Key P384Key::from_scalar(std::span<const std::uint8_t, 48> scalar) {
    const auto number = bignum(scalar);
    BN_set_flags(number.get(), BN_FLG_CONSTTIME);
    if (BN_is_zero(number.get()) || BN_cmp(number.get(), EC_GROUP_get0_order(p384())) >= 0)
        throw Error{Fault::malformed, "P-384 private scalar: outside 1 … group order - 1"};
    const Ec<EC_POINT> point{EC_POINT_new(p384())};
    if (!point) failed("EC_POINT_new");
    must(EC_POINT_mul(p384(), point.get(), number.get(), nullptr, nullptr, nullptr), "EC_POINT_mul");
    const auto x = owned(BN_new(), "BN_new"), y = owned(BN_new(), "BN_new");
    must(EC_POINT_get_affine_coordinates(p384(), point.get(), x.get(), y.get(), nullptr), "EC_POINT_get_affine_coordinates");
    return P384Key{private_key(number.get(), {.x = bytes48(x.get()), .y = bytes48(y.get())})};
}

P384Key P384Key::from_der(ByteView der, std::string_view what) { return P384Key{decode_private(der, "DER", what)}; }

P384Key P384Key::from_pem(ByteView pem, std::string_view what) { return P384Key{decode_private(pem, "PEM", what)}; }

P384Point P384Key::public_point() const {
    const auto coordinate = [this](const char* name) {
        BIGNUM* number = nullptr;
        must(EVP_PKEY_get_bn_param(key_.get(), name, &number), "EVP_PKEY_get_bn_param");
        const Openssl<BIGNUM> owned_number{number};
        return bytes48(number);
    };
    return {.x = coordinate(OSSL_PKEY_PARAM_EC_PUB_X), .y = coordinate(OSSL_PKEY_PARAM_EC_PUB_Y)};
}

P384Signature P384Key::sign(ByteView digest) const {
    const auto context = owned(EVP_PKEY_CTX_new(key_.get(), nullptr), "EVP_PKEY_CTX_new");
    must(EVP_PKEY_sign_init(context.get()), "EVP_PKEY_sign_init");
    ByteArray<128> der{};
    std::size_t length = der.size();
    must(EVP_PKEY_sign(context.get(), der.data(), &length, digest.data(), digest.size()), "EVP_PKEY_sign");
    const unsigned char* at = der.data();
    const Ec<ECDSA_SIG> pair{d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(length))};
    if (!pair) failed("d2i_ECDSA_SIG");
    return {.r = bytes48(ECDSA_SIG_get0_r(pair.get())), .s = bytes48(ECDSA_SIG_get0_s(pair.get()))};
}

SecretBytes P384Key::ecdh(const P384Point& peer) const {
    const auto peer_key = try_public_key(peer);
    if (!peer_key) throw Error{Fault::malformed, "ECDH: the peer's public point is not on P-384"};
    const auto context = owned(EVP_PKEY_CTX_new(key_.get(), nullptr), "EVP_PKEY_CTX_new");
    must(EVP_PKEY_derive_init(context.get()), "EVP_PKEY_derive_init");
    must(EVP_PKEY_derive_set_peer(context.get(), peer_key.get()), "EVP_PKEY_derive_set_peer");
    SecretBytes out(48);
    std::size_t length = out.size();
    must(EVP_PKEY_derive(context.get(), out.writable().data(), &length), "EVP_PKEY_derive");
    require(length == 48, "ECDH output length");
    return out;
}

SecretBytes P384Key::to_der() const {
    const Ec<OSSL_ENCODER_CTX> encoder{OSSL_ENCODER_CTX_new_for_pkey(key_.get(), EVP_PKEY_KEYPAIR, "DER", "type-specific", nullptr)};
    if (!encoder) failed("OSSL_ENCODER_CTX_new_for_pkey");
    unsigned char* der = nullptr;
    std::size_t length = 0;
    must(OSSL_ENCODER_to_data(encoder.get(), &der, &length), "OSSL_ENCODER_to_data");
    SecretBytes out{ByteView{der, length}};
    OPENSSL_clear_free(der, length);
    return out;
}

SecretBytes P384Key::scalar() const {
    BIGNUM* number = nullptr;
    must(EVP_PKEY_get_bn_param(key_.get(), OSSL_PKEY_PARAM_PRIV_KEY, &number), "EVP_PKEY_get_bn_param");
    const Openssl<BIGNUM> owned_number{number};
    SecretBytes out(48);
    if (BN_bn2binpad(number, out.writable().data(), 48) != 48) failed("BN_bn2binpad");
    return out;
}

} // namespace sev
