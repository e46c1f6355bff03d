// SPDX-License-Identifier: Apache-2.0
#include "tests/emulator/host.hpp"

#include <map>

#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace sev::test {
namespace {

Bytes hmac(ByteView key, const Bytes& data) {
    Bytes out(32);
    unsigned length = 0;
    REQUIRE(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data.data(), data.size(), out.data(), &length) != nullptr);
    return out;
}

Bytes ctr(ByteView key, ByteView iv, ByteView in) {
    Bytes out(in.size());
    int length = 0;
    EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
    REQUIRE(EVP_EncryptInit_ex(context, EVP_aes_128_ctr(), nullptr, key.data(), iv.data()) == 1);
    REQUIRE(EVP_EncryptUpdate(context, out.data(), &length, in.data(), static_cast<int>(in.size())) == 1);
    EVP_CIPHER_CTX_free(context);
    return out;
}

Bytes le32(std::size_t value) { return Raw{4}.u32(0, value).bytes; }

/// KDF of the SEV API for 128 bits.
Bytes kdf(ByteView key, std::string_view label, ByteView context) {
    Bytes out = hmac(key, le32(1) + as_bytes(label) + Bytes{0} + context + le32(128));
    out.resize(16);
    return out;
}

ByteArray<48> big_endian(ByteView little_endian) {
    ByteArray<48> out{};
    std::ranges::copy(little_endian.first(48), out.rbegin());
    return out;
}

} // namespace

Path chip_directory(std::string_view personality, const Path& where) {
    static std::map<std::string, std::unique_ptr<TemporaryDirectory>, std::less<>> made;
    auto found = made.find(personality);
    if (found == made.end()) {
        const auto* data = psp::emulator::find_personality(personality);
        REQUIRE(data != nullptr);
        found = made.emplace(personality, std::make_unique<TemporaryDirectory>()).first;
        Emulator::create(*found->second / "psp", *data);
    }
    std::filesystem::create_directory(where);
    std::filesystem::permissions(where, std::filesystem::perms::owner_all);
    std::filesystem::copy_file(*found->second / "psp" / "state", where / "state");
    return where;
}

Owner Owner::make(ByteView pdh_certificate, std::uint32_t policy) {
    Owner owner{.godh = {}, .session = {}, .tek = random_array<16>(), .tik = random_array<16>()};
    const P384Key key = P384Key::generate();
    const P384Point point = key.public_point();
    Raw certificate{0x824};
    certificate.u32(0, 1).u32(8, 0x1003).u32(0xC, 3).u32(0x10, 2).u32(0x414, 0x1000).u32(0x61C, 0x1000);
    std::ranges::reverse_copy(point.x, certificate.bytes.begin() + 0x14);
    std::ranges::reverse_copy(point.y, certificate.bytes.begin() + 0x5C);
    owner.godh = certificate.bytes;
    const P384Point pdh{.x = big_endian(pdh_certificate.subspan(0x14)), .y = big_endian(pdh_certificate.subspan(0x5C))};
    const SecretBytes z = key.ecdh(pdh);
    const auto nonce = random_array<16>(), iv = random_array<16>();
    const Bytes master = kdf(z.reveal(), "sev-master-secret", nonce);
    const Bytes wrapped = ctr(kdf(master, "sev-kek", {}), iv, Bytes(owner.tek.begin(), owner.tek.end()) + owner.tik);
    owner.session = Bytes(nonce.begin(), nonce.end()) + wrapped + iv + hmac(kdf(master, "sev-kik", {}), wrapped) + hmac(owner.tik, le32(policy));
    return owner;
}

Bytes Owner::expected_measure(const ByteArray<3>& build, std::uint32_t policy, ByteView digest, ByteView mnonce) const {
    return hmac(tik, Bytes{4} + build + le32(policy) + digest + mnonce);
}

Owner::Packet Owner::seal(ByteView secret, ByteView measure) const {
    const auto iv = random_array<16>();
    Packet packet{.header = {}, .data = ctr(tek, iv, secret)};
    const Bytes mac = hmac(tik, Bytes{1} + le32(0) + iv + le32(secret.size()) + le32(secret.size()) + packet.data + measure);
    packet.header = le32(0) + iv + mac;
    return packet;
}

} // namespace sev::test
