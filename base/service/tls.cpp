// SPDX-License-Identifier: Apache-2.0
#include "base/service/tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::service {
namespace {

constexpr std::size_t pem_limit_bytes = 1U << 20;

struct Free {
    void operator()(X509* p) const noexcept { ::X509_free(p); }
    void operator()(BIO* p) const noexcept { ::BIO_free(p); }
    void operator()(unsigned char* p) const noexcept { ::OPENSSL_free(p); }
};

[[noreturn]] void refused(const Path& file, std::string_view problem) {
    ::ERR_clear_error();
    throw Error{Fault::malformed, fmt::format("{}: {}", printable(file.string(), 1024), problem)};
}

} // namespace

std::shared_ptr<boost::asio::ssl::context> tls_context(const TlsFiles& files) {
    namespace ssl = boost::asio::ssl;
    auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
    SSL_CTX* const native = context->native_handle();
    const Bytes chain = read_file(files.certificate, pem_limit_bytes), ca = read_file(files.client_ca, pem_limit_bytes);
    const SecretBytes key = read_secret(files.key, pem_limit_bytes);
    boost::system::error_code error;
    context->use_certificate_chain({chain.data(), chain.size()}, error);
    if (error) refused(files.certificate, "is no certificate chain in PEM");
    context->use_private_key({key.reveal().data(), key.size()}, ssl::context::pem, error);
    if (error) refused(files.key, "is no private key in PEM, or not that of the certificate");
    context->add_certificate_authority({ca.data(), ca.size()}, error);
    if (error) refused(files.client_ca, "holds no CA certificate in PEM");

    // What OpenSSL refuses here it refuses for reasons of its own; none of these may be left out.
    const bool set = ::SSL_CTX_set_min_proto_version(native, TLS1_3_VERSION) == 1 && ::SSL_CTX_set_max_proto_version(native, TLS1_3_VERSION) == 1 &&
                     ::SSL_CTX_set_num_tickets(native, 0) == 1 && ::SSL_CTX_check_private_key(native) == 1;
    ::SSL_CTX_set_options(native, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    ::SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
    ::SSL_CTX_set_verify(native, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    ::SSL_CTX_set_verify_depth(native, 4);
    ::SSL_CTX_set_max_cert_list(native, 64L * 1024);
    if (!set) refused(files.key, "OpenSSL takes neither TLS 1.3 nor this key for this certificate");
    ::ERR_clear_error();
    return context;
}

std::optional<Peer::Certificate> client_certificate(SSL* connection) {
    const std::unique_ptr<X509, Free> certificate{::SSL_get1_peer_certificate(connection)};
    if (!certificate || ::SSL_get_verify_result(connection) != X509_V_OK) return std::nullopt;
    unsigned char* der = nullptr;
    const int length = ::i2d_X509(certificate.get(), &der);
    if (length <= 0) return std::nullopt;
    const std::unique_ptr<unsigned char, Free> owned{der};
    const std::unique_ptr<BIO, Free> text{::BIO_new(::BIO_s_mem())};
    if (!text || ::X509_NAME_print_ex(text.get(), ::X509_get_subject_name(certificate.get()), 0, XN_FLAG_RFC2253) < 0) return std::nullopt;
    char* data = nullptr;
    const long size = ::BIO_get_mem_data(text.get(), &data);
    return Peer::Certificate{.fingerprint = sha256({der, static_cast<std::size_t>(length)}),
                             .subject = printable({data, static_cast<std::size_t>(size)}, 256)};
}

std::string last_tls_reason(const boost::system::error_code& error) {
    ::ERR_clear_error();
    return error.message();
}

} // namespace sev::service
