// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <openssl/x509v3.h>

#include "tests/service/support.hpp"

using namespace sev;
using namespace sev::service;
using namespace sev::test;
namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;

namespace {

/// A CA that lives for one test.
struct Authority {
    struct Issued {
        std::string certificate, key; // PEM
        Digest fingerprint;
    };
    explicit Authority(const char* name) : key{::EVP_EC_gen("P-256")}, certificate{make(name, key, nullptr, nullptr, true)} {}
    ~Authority() {
        ::X509_free(certificate);
        ::EVP_PKEY_free(key);
    }
    Authority(const Authority&) = delete;
    static X509* make(const char* name, EVP_PKEY* subject, X509* issuer, EVP_PKEY* signer, bool ca, long days = 1) {
        X509* const out = ::X509_new();
        ::X509_set_version(out, 2);
        ::ASN1_INTEGER_set(::X509_get_serialNumber(out), 7);
        ::X509_gmtime_adj(::X509_getm_notBefore(out), -2 * 86400);
        ::X509_gmtime_adj(::X509_getm_notAfter(out), days * 86400);
        ::X509_set_pubkey(out, subject);
        ::X509_NAME_add_entry_by_txt(::X509_get_subject_name(out), "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
        ::X509_set_issuer_name(out, ::X509_get_subject_name(issuer ? issuer : out));
        X509_EXTENSION* const basic = ::X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
        ::X509_add_ext(out, basic, -1);
        ::X509_EXTENSION_free(basic);
        REQUIRE(::X509_sign(out, signer ? signer : subject, ::EVP_sha256()) > 0);
        return out;
    }
    template <class Write>
    static std::string pem(Write&& write) {
        BIO* const bio = ::BIO_new(::BIO_s_mem());
        REQUIRE(write(bio) == 1);
        char* data = nullptr;
        const long size = ::BIO_get_mem_data(bio, &data);
        std::string out(data, static_cast<std::size_t>(size));
        ::BIO_free(bio);
        return out;
    }
    std::string pem() const {
        return pem([&](BIO* bio) { return ::PEM_write_bio_X509(bio, certificate); });
    }
    Issued issue(const char* name, long days = 1) const {
        EVP_PKEY* const subject = ::EVP_EC_gen("P-256");
        X509* const made = make(name, subject, certificate, key, false, days);
        Issued out{.certificate = pem([&](BIO* bio) { return ::PEM_write_bio_X509(bio, made); }),
                   .key = pem([&](BIO* bio) { return ::PEM_write_bio_PrivateKey(bio, subject, nullptr, nullptr, 0, nullptr, nullptr); }),
                   .fingerprint = {}};
        unsigned int size = 0;
        REQUIRE(::X509_digest(made, ::EVP_sha256(), out.fingerprint.data(), &size) == 1);
        ::X509_free(made);
        ::EVP_PKEY_free(subject);
        return out;
    }
    EVP_PKEY* key;
    X509* certificate;
};

struct Fixture {
    explicit Fixture(std::optional<std::vector<Digest>> clients = std::nullopt) {
        const auto issued = authority.issue("localhost");
        put("server.pem", issued.certificate);
        put("server.key", issued.key);
        put("ca.pem", authority.pem());
        Limits limits;
        limits.handshake_deadline = 400ms;
        server.emplace(std::vector<Route>{{.method = "GET",
                                           .path = "/",
                                           .body_limit_bytes = 0,
                                           .content_type = "",
                                           .where = Where::worker,
                                           .admit = {},
                                           .handle =
                                               [](const Request& r) {
                                                   return text_response(r.peer.channel() + " " +
                                                                        (r.peer.certificate() ? r.peer.certificate()->subject : ""));
                                               }}},
                       limits, log);
        port = server->listen(TlsEndpoint{.address = "127.0.0.1", .port = 0, .files = files(std::move(clients))});
        server->start();
    }
    TlsFiles files(std::optional<std::vector<Digest>> clients) const {
        return {.certificate = directory / "server.pem",
                .key = directory / "server.key",
                .client_ca = directory / "ca.pem",
                .clients = std::move(clients)};
    }
    void put(std::string_view name, const std::string& text) const {
        write_file(directory / name, as_bytes(text), Visibility::secret, Existing::replace);
    }
    /// The body of GET /, or why there was none.
    std::string ask(const std::optional<Authority::Issued>& client, int version = TLS1_3_VERSION) const {
        ssl::context context{ssl::context::tls_client};
        ::SSL_CTX_set_max_proto_version(context.native_handle(), version);
        context.add_certificate_authority(asio::buffer(authority.pem()));
        context.set_verify_mode(ssl::verify_peer);
        if (client) {
            context.use_certificate_chain(asio::buffer(client->certificate));
            context.use_private_key(asio::buffer(client->key), ssl::context::pem);
        }
        asio::io_context io;
        ssl::stream<asio::ip::tcp::socket> stream{io, context};
        boost::system::error_code error;
        stream.lowest_layer().connect({asio::ip::make_address("127.0.0.1"), port}, error);
        if (error) return "connect: " + error.message();
        stream.handshake(ssl::stream_base::client, error);
        if (error) return "handshake: " + error.message();
        asio::write(stream, asio::buffer(std::string{"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"}), error);
        std::string text;
        asio::read(stream, asio::dynamic_buffer(text), error);
        const std::size_t body = text.find("\r\n\r\n");
        return body == std::string::npos ? "read: " + error.message() : text.substr(body + 4);
    }

    TemporaryDirectory directory;
    Authority authority{"test CA"}, stranger{"another CA"};
    Log log{"test", Sink::standard_error, Priority::error};
    std::optional<Server> server;
    std::uint16_t port = 0;
};

} // namespace

TEST_CASE("TLS: a client with a certificate of the CA gets in, under its fingerprint") {
    Fixture f;
    const auto client = f.authority.issue("host.example");
    CHECK(f.ask(client) == "cert:" + hex(client.fingerprint) + " CN=host.example");
    CHECK(f.server->counters().handshakes_failed == 0);
}

TEST_CASE("TLS: no certificate, another CA's, an expired one, an old protocol: nobody gets an answer") {
    Fixture f;
    std::uint64_t failures = 0;
    const auto refused = [&](const std::optional<Authority::Issued>& client, int version = TLS1_3_VERSION) {
        const std::string answer = f.ask(client, version);
        CAPTURE(answer);
        CHECK((answer.starts_with("read: ") || answer.starts_with("handshake: ")));
        for (int i = 0; i < 100 && f.server->counters().handshakes_failed == failures; ++i) std::this_thread::sleep_for(10ms);
        CHECK(f.server->counters().handshakes_failed == ++failures);
    };
    refused(std::nullopt);
    refused(f.stranger.issue("host.example"));
    refused(f.authority.issue("host.example", -1));
    refused(f.authority.issue("host.example"), TLS1_2_VERSION);
    CHECK(f.server->counters().requests == 0);
    CHECK(f.ask(f.authority.issue("host.example")).starts_with("cert:"));
}

TEST_CASE("TLS: with a list, only those on it; an empty list lets in nobody") {
    {
        Fixture f{std::vector<Digest>{}};
        CHECK(f.ask(f.authority.issue("host.example")).starts_with("read: "));
        CHECK(f.server->counters().requests == 0);
    }
    const Authority authority{"x"};
    Fixture f{std::vector<Digest>{filled<32>(7)}};
    CHECK(f.ask(f.authority.issue("host.example")).starts_with("read: "));
}

TEST_CASE("TLS: who connects and does not shake hands is gone at the deadline") {
    Fixture f;
    asio::io_context io;
    asio::ip::tcp::socket socket{io};
    socket.connect({asio::ip::make_address("127.0.0.1"), f.port});
    std::array<char, 16> buffer{};
    boost::system::error_code error;
    const auto begun = std::chrono::steady_clock::now();
    socket.read_some(asio::buffer(buffer), error);
    CHECK(error);
    CHECK(std::chrono::steady_clock::now() - begun < 2s);
    CHECK(std::chrono::steady_clock::now() - begun > 300ms);
}

TEST_CASE("TLS: files that do not do are refused by name, and a reload takes new ones for new connections") {
    Fixture f;
    Log log{"test", Sink::standard_error, Priority::error};
    Server other{{}, {}, log};
    const auto files = f.files(std::nullopt);
    f.put("bad.pem", "no certificate\n");
    auto bad = files;
    bad.certificate = f.directory / "bad.pem";
    CHECK_THROWS_WITH_AS(other.listen(TlsEndpoint{.address = "127.0.0.1", .port = 0, .files = bad}),
                         doctest::Contains("bad.pem: is no certificate chain"), Error);
    bad = files;
    f.put("other.key", f.authority.issue("x").key);
    bad.key = f.directory / "other.key";
    CHECK_THROWS_WITH_AS(other.listen(TlsEndpoint{.address = "127.0.0.1", .port = 0, .files = bad}),
                         doctest::Contains("other.key: is no private key"), Error);
    bad = files;
    bad.client_ca = f.directory / "absent.pem";
    CHECK_THROWS_WITH_AS(other.listen(TlsEndpoint{.address = "127.0.0.1", .port = 0, .files = bad}), doctest::Contains("absent.pem"), Error);
    CHECK_THROWS_WITH_AS(other.listen(TlsEndpoint{.address = "localhost", .port = 0, .files = files}), doctest::Contains("no numeric address"),
                         Error);
    CHECK_THROWS_WITH_AS(other.listen(TlsEndpoint{.address = "127.0.0.1", .port = f.port, .files = files}), doctest::Contains("in use"), Error);

    f.put("ca.pem", f.stranger.pem());
    f.server->reload_tls();
    CHECK(f.ask(f.authority.issue("host.example")).starts_with("read: "));
    CHECK(f.ask(f.stranger.issue("host.example")).starts_with("cert:"));
    f.put("ca.pem", "broken");
    CHECK_THROWS_AS(f.server->reload_tls(), Error);
    CHECK(f.ask(f.stranger.issue("host.example")).starts_with("cert:"));
}
