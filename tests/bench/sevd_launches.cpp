// SPDX-License-Identifier: Apache-2.0
// What one launch's bytes cost OpenSSL alone, for sevd_launches.py: SHA-256 and AES-128-ECB over 64 MiB, by processor time, on as many threads as
// asked for at once, so that cores that share something share it here too. Prints JSON: seconds a pass.
#include <cstdlib>

#include <openssl/evp.h>

#include "base/bytes.hpp"
#include "base/crypto.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;

constexpr std::size_t image_bytes = std::size_t{64} << 20;

void must(int result) {
    if (result != 1) std::abort();
}

struct Costs {
    bench::Samples hash, cipher;
};

Costs measure(unsigned rounds) {
    Bytes image(image_bytes, 0x5A);
    EVP_CIPHER_CTX* aes = EVP_CIPHER_CTX_new();
    must(EVP_EncryptInit_ex(aes, EVP_aes_128_ecb(), nullptr, random_array<16>().data(), nullptr));
    must(EVP_CIPHER_CTX_set_padding(aes, 0));
    Costs out;
    for (unsigned round = 0; round < rounds; ++round) {
        Digest digest{};
        out.hash.time_computing([&] { must(EVP_Digest(image.data(), image.size(), digest.data(), nullptr, EVP_sha256(), nullptr)); });
        int length = 0;
        out.cipher.time_computing([&] { must(EVP_EncryptUpdate(aes, image.data(), &length, image.data(), static_cast<int>(image.size()))); });
    }
    EVP_CIPHER_CTX_free(aes);
    return out;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const auto threads = static_cast<std::size_t>(std::atoi(argv[1]));
    const auto rounds = static_cast<unsigned>(std::atoi(argv[2]));
    if (threads == 0 || rounds == 0) return 2;
    std::vector<Costs> costs(threads);
    std::vector<std::thread> running;
    for (Costs& cost : costs) running.emplace_back([&cost, rounds] { cost = measure(rounds); });
    for (std::thread& thread : running) thread.join();
    double hash = 0, cipher = 0;
    for (const Costs& cost : costs) {
        hash += cost.hash.median_seconds() / static_cast<double>(threads);
        cipher += cost.cipher.median_seconds() / static_cast<double>(threads);
    }
    fmt::print("{{\"sha256\": {:.9f}, \"aes\": {:.9f}}}\n", hash, cipher);
    return 0;
}
