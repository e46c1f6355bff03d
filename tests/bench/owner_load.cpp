// SPDX-License-Identifier: Apache-2.0
// The hosts' end of a load on sev-owner, and OpenSSL's raw rates to hold it against; owner_load.py starts the owner and judges the numbers. Each mode
// prints one JSON object.
//   raw THREADS CALLS                       processor time of one P-384 verification, signature, ECDH, key generation, and RSA-2048 verification, on
//   that many threads at once load PORT CERTIFICATES THREADS SECONDS  whole launches, one after the other on each thread: session, measurement,
//   verdict, packet pace PORT CERTIFICATES THREADS RATE N   N whole launches begun at a steady rate; answers' times open PORT CERTIFICATES THREADS N
//   N sessions that nobody finishes
#include <atomic>
#include <cmath>
#include <mutex>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>

#include "attest/protocol/bundle.hpp"
#include "attest/protocol/exchange.hpp"
#include "base/file.hpp"
#include "psp/keys.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using namespace sev::attest;
using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(std::string_view what) {
    fmt::print(stderr, "owner_load: {}\n", what);
    std::exit(2);
}
template <class Handle>
Handle* must(Handle* handle) {
    if (!handle) fail("OpenSSL");
    return handle;
}
void must(int result) {
    if (result != 1) fail("OpenSSL");
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// Runs `body(thread)` on that many threads.
template <class Body>
void on_threads(unsigned count, Body&& body) {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < count; ++i) threads.emplace_back([&, i] { body(i); });
    for (std::thread& thread : threads) thread.join();
}

/// A connection to the owner that is kept, and made again when the owner has ended it.
class Connection {
public:
    Connection(const std::string& port, const std::string& folder) : port_{port}, context_{must(SSL_CTX_new(TLS_client_method()))} {
        must(SSL_CTX_load_verify_locations(context_, (folder + "/ca.pem").c_str(), nullptr));
        must(SSL_CTX_use_certificate_file(context_, (folder + "/alice.pem").c_str(), SSL_FILETYPE_PEM));
        must(SSL_CTX_use_PrivateKey_file(context_, (folder + "/alice.key").c_str(), SSL_FILETYPE_PEM));
        SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
        SSL_CTX_set_mode(context_, SSL_MODE_AUTO_RETRY);
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() {
        BIO_free_all(bio_);
        SSL_CTX_free(context_);
    }
    /// The payload of the owner's answer; its signature is not verified, because a host's work is not what is measured.
    json::Value post(const std::string& body) {
        if (!bio_ || ++used_ > 900) connect();
        const std::string head =
            fmt::format("POST /v1/exchange HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.size());
        const std::string whole = head + body;
        if (BIO_write(bio_, whole.data(), static_cast<int>(whole.size())) != static_cast<int>(whole.size())) fail("write");
        const std::string jws = answer();
        const std::size_t first = jws.find('.'), second = jws.rfind('.');
        const auto payload = try_unbase64url(std::string_view{jws}.substr(first + 1, second - first - 1));
        if (!payload) fail("no JWS: " + jws.substr(0, 200));
        return json::parse(as_text(*payload), "answer", {.bytes = ExchangeAnswer::limit_bytes, .depth = 16});
    }

private:
    void connect() {
        BIO_free_all(bio_);
        bio_ = must(BIO_new_ssl_connect(context_));
        BIO_set_conn_hostname(bio_, ("127.0.0.1:" + port_).c_str());
        // as curl, and so sev-relay, does: else Nagle's rule holds the first request back for the 40 ms that the owner's kernel delays its ACK
        BIO_set_conn_mode(bio_, BIO_SOCK_NODELAY);
        if (BIO_do_connect(bio_) != 1 || BIO_do_handshake(bio_) != 1) fail("connect");
        used_ = 0;
    }
    std::string answer() {
        std::string text;
        std::array<char, 65536> piece{};
        std::size_t end = std::string::npos, length = 0;
        while (end == std::string::npos || text.size() < end + 4 + length) {
            const int got = BIO_read(bio_, piece.data(), static_cast<int>(piece.size()));
            if (got <= 0) fail("read");
            text.append(piece.data(), static_cast<std::size_t>(got));
            if (end != std::string::npos || (end = text.find("\r\n\r\n")) == std::string::npos) continue;
            if (!text.starts_with("HTTP/1.1 200 ")) fail(text.substr(0, 400));
            constexpr std::string_view name = "Content-Length: ";
            length = std::stoul(text.substr(text.find(name) + name.size()));
        }
        return text.substr(end + 4);
    }
    std::string port_;
    SSL_CTX* context_;
    BIO* bio_ = nullptr;
    unsigned used_ = 0;
};

/// The host and its PSP: the fixture's platform, whose PDH key we have.
struct Host {
    Bundle bundle = read_message<Bundle>(read_text("tests/fixtures/attest/bundle.json", 1U << 20), "bundle");
    Digest digest =
        unhex<32>(json::parse(read_text("tests/fixtures/attest/answers.json", 1U << 20), "answers").at("launch").at("digest").get<std::string>());
    P384Key pdh = P384Key::from_scalar(
        unhex<48>(json::parse(read_text("tests/fixtures/psp/known_answers.json", 1U << 20), "answers").at("pdh").at("scalar_be").get<std::string>()));

    SessionOffer session(Connection& connection) const {
        const SessionRequest request{.nonce = random_array<16>(), .launch_name = "load", .policy = "web", .platform = bundle.platform};
        const json::Value answer = connection.post(request.to_json().dump());
        if (!answer.contains("offer")) fail("no offer: " + answer.dump().substr(0, 400));
        return SessionOffer::from_json(answer.at("offer"), "offer");
    }
    JudgementRequest measured(const SessionOffer& offer) const {
        const auto godh = psp::SevCertificate::parse(wire::view(offer.godh));
        const auto blob = psp::SessionBlob::parse(wire::view(offer.session));
        const SecretBytes z = pdh.ecdh(*godh.point());
        const auto keys = psp::unwrap_session(psp::derive_session_keys(z.reveal(), blob.nonce), blob, offer.policy);
        if (!keys) fail("the offer does not unwrap");
        JudgementRequest request{.nonce = random_array<16>(), .launch = bundle.launch};
        request.launch.session_id = offer.session_id;
        request.launch.launch_name = offer.launch_name;
        request.launch.policy = offer.policy;
        psp::LaunchMeasurement measurement{.measure = {}, .mnonce = random_array<16>()};
        measurement.measure = psp::expected_measurement(keys->tik, bundle.launch.build, offer.policy, digest, measurement.mnonce);
        request.launch.proof = measurement;
        return request;
    }
    void judge(Connection& connection, const JudgementRequest& request) const {
        const json::Value answer = connection.post(request.to_json().dump());
        if (!answer.contains("judgement") || answer.at("judgement").at("packets").size() != 1) fail("not trusted: " + answer.dump().substr(0, 2000));
    }
};

double thread_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Mean processor seconds of one call, on so many threads at once: waiting for a busy processor does not count.
template <class Make>
double raw_seconds(unsigned threads, unsigned calls, Make&& make) {
    std::vector<decltype(make())> bodies;
    for (unsigned i = 0; i < threads; ++i) bodies.push_back(make());
    std::vector<double> took(threads);
    on_threads(threads, [&](unsigned thread) {
        const double begin = thread_seconds();
        for (unsigned i = 0; i < calls; ++i) bodies[thread]();
        took[thread] = (thread_seconds() - begin) / calls;
    });
    double sum = 0;
    for (const double one : took) sum += one;
    return sum / threads;
}

EVP_PKEY* key_of(const char* kind) { return must(std::string_view{kind} == "RSA" ? EVP_RSA_gen(2048) : EVP_EC_gen("P-384")); }

int raw(unsigned threads, unsigned calls) {
    const Bytes digest(48, 7), rsa_digest(32, 7);
    const auto signing = [&] {
        return [key = key_of("EC"), &digest] {
            const Openssl<EVP_PKEY_CTX> context{must(EVP_PKEY_CTX_new(key, nullptr))};
            std::array<std::uint8_t, 128> signature{};
            std::size_t length = signature.size();
            must(EVP_PKEY_sign_init(context.get()));
            must(EVP_PKEY_sign(context.get(), signature.data(), &length, digest.data(), digest.size()));
        };
    };
    const auto verifying = [](const char* kind, const Bytes& what) {
        return [kind, &what] {
            EVP_PKEY* key = key_of(kind);
            const Openssl<EVP_PKEY_CTX> signer{must(EVP_PKEY_CTX_new(key, nullptr))};
            Bytes signature(512);
            std::size_t length = signature.size();
            must(EVP_PKEY_sign_init(signer.get()));
            must(EVP_PKEY_sign(signer.get(), signature.data(), &length, what.data(), what.size()));
            signature.resize(length);
            return [key, signature, &what] {
                const Openssl<EVP_PKEY_CTX> context{must(EVP_PKEY_CTX_new(key, nullptr))};
                must(EVP_PKEY_verify_init(context.get()));
                must(EVP_PKEY_verify(context.get(), signature.data(), signature.size(), what.data(), what.size()));
            };
        };
    };
    const auto agreeing = [] {
        return [own = key_of("EC"), peer = key_of("EC")] {
            const Openssl<EVP_PKEY_CTX> context{must(EVP_PKEY_CTX_new(own, nullptr))};
            std::array<std::uint8_t, 48> z{};
            std::size_t length = z.size();
            must(EVP_PKEY_derive_init(context.get()));
            must(EVP_PKEY_derive_set_peer_ex(context.get(), peer, 0));
            must(EVP_PKEY_derive(context.get(), z.data(), &length));
        };
    };
    const auto generating = [] { return [] { const Openssl<EVP_PKEY> key{key_of("EC")}; }; };
    json::Value out;
    out["verify"] = raw_seconds(threads, calls, verifying("EC", digest));
    out["sign"] = raw_seconds(threads, calls, signing);
    out["ecdh"] = raw_seconds(threads, calls, agreeing);
    out["generate"] = raw_seconds(threads, calls, generating);
    out["rsa_verify"] = raw_seconds(threads, calls, verifying("RSA", rsa_digest));
    fmt::print("{}\n", out.dump());
    return 0;
}

int load(const std::string& port, const std::string& folder, unsigned threads, double seconds) {
    const Host host;
    std::atomic<std::uint64_t> launches{0};
    const auto begin = Clock::now();
    on_threads(threads, [&](unsigned) {
        Connection connection{port, folder};
        while (seconds_since(begin) < seconds) {
            host.judge(connection, host.measured(host.session(connection)));
            ++launches;
        }
    });
    const double took = seconds_since(begin);
    timespec cpu{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    fmt::print("{}\n", json::Value{{"launches", launches.load()},
                                   {"seconds", took},
                                   {"client_cpu_seconds", static_cast<double>(cpu.tv_sec) + 1e-9 * static_cast<double>(cpu.tv_nsec)}}
                           .dump());
    return 0;
}

int pace(const std::string& port, const std::string& folder, unsigned threads, double rate, unsigned count) {
    const Host host;
    std::mutex mutex;
    std::vector<double> times;
    const auto begin = Clock::now();
    std::atomic<unsigned> next{0};
    on_threads(threads, [&](unsigned) {
        Connection connection{port, folder};
        for (unsigned i = next++; i < count; i = next++) {
            // an open loop: a launch that begins late counts from when it should have begun
            const auto due = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(i / rate));
            std::this_thread::sleep_until(due);
            const SessionOffer offer = host.session(connection);
            const JudgementRequest request = host.measured(offer);
            host.judge(connection, request);
            const std::lock_guard lock{mutex};
            times.push_back(seconds_since(due));
        }
    });
    std::ranges::sort(times);
    const auto at = [&](double share) {
        return times[std::min(times.size() - 1, static_cast<std::size_t>(share * static_cast<double>(times.size())))];
    };
    fmt::print("{}\n", json::Value{{"median_s", at(0.5)}, {"p99_s", at(0.99)}, {"launches", times.size()}}.dump());
    return 0;
}

int open(const std::string& port, const std::string& folder, unsigned threads, unsigned count) {
    const Host host;
    std::atomic<unsigned> next{0};
    on_threads(threads, [&](unsigned) {
        Connection connection{port, folder};
        while (next++ < count) host.session(connection);
    });
    fmt::print("{}\n", json::Value{{"sessions", count}}.dump());
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    try {
        const std::vector<std::string> words{argv + 1, argv + argc};
        const auto number = [&](std::size_t i) { return static_cast<unsigned>(std::stoul(words.at(i))); };
        const std::string mode = words.at(0);
        if (mode == "raw") return raw(number(1), number(2));
        if (mode == "load") return load(words.at(1), words.at(2), number(3), std::stod(words.at(4)));
        if (mode == "pace") return pace(words.at(1), words.at(2), number(3), std::stod(words.at(4)), number(5));
        if (mode == "open") return open(words.at(1), words.at(2), number(3), number(4));
        fail("no such mode");
    } catch (const std::exception& error) {
        fail(error.what());
    }
}
