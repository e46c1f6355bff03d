// SPDX-License-Identifier: Apache-2.0
// What one launch's bytes cost OpenSSL alone, for sevd_launches.py: SHA-256 and AES-128-ECB over 64 MiB, by processor time, on as many threads as
// asked for at once, so that cores that share something share it here too. Prints JSON: seconds a pass.
//
// usage: bench_sevd_launches THREADS ROUNDS
//        bench_sevd_launches THREADS COUNT IMAGE   all that COUNT launches cannot do without, and nothing else: fresh memory that stays, the image
//                                                  read into it, SHA-256 twice, AES once; processor seconds, the kernel's too,
//                                                  and seconds by the clock
#include <atomic>
#include <cstdlib>
#include <thread>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

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

double processor_seconds() {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// One image in memory of its own, which stays: a guest's does, too.
void load(const char* path) {
    void* const memory = ::mmap(nullptr, image_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int file = ::open(path, O_RDONLY | O_CLOEXEC);
    if (memory == MAP_FAILED || file < 0) std::abort();
    const std::span<std::uint8_t> image{static_cast<std::uint8_t*>(memory), image_bytes};
    for (std::size_t at = 0; at < image.size();) {
        const ssize_t got = ::read(file, image.data() + at, image.size() - at);
        if (got <= 0) std::abort();
        at += static_cast<std::size_t>(got);
    }
    ::close(file);
    Digest digest{};
    for (int pass = 0; pass < 2; ++pass) must(EVP_Digest(image.data(), image.size(), digest.data(), nullptr, EVP_sha256(), nullptr));
    EVP_CIPHER_CTX* aes = EVP_CIPHER_CTX_new();
    must(EVP_EncryptInit_ex(aes, EVP_aes_128_ecb(), nullptr, random_array<16>().data(), nullptr));
    must(EVP_CIPHER_CTX_set_padding(aes, 0));
    int length = 0;
    must(EVP_EncryptUpdate(aes, image.data(), &length, image.data(), static_cast<int>(image.size())));
    EVP_CIPHER_CTX_free(aes);
}

int load_all(std::size_t threads, unsigned count, const char* path) {
    const auto begun = std::chrono::steady_clock::now();
    std::atomic<unsigned> next{0};
    std::vector<std::thread> running;
    for (std::size_t i = 0; i < threads; ++i)
        running.emplace_back([&] {
            while (next++ < count) load(path);
        });
    for (std::thread& thread : running) thread.join();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    fmt::print("{{\"processor\": {:.6f}, \"clock\": {:.6f}}}\n", processor_seconds(), took.count());
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3 && argc != 4) return 2;
    const auto threads = static_cast<std::size_t>(std::atoi(argv[1]));
    const auto rounds = static_cast<unsigned>(std::atoi(argv[2]));
    if (threads == 0 || rounds == 0) return 2;
    if (argc == 4) return load_all(threads, rounds, argv[3]);
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
