// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/xen/coco.hpp"
#include "psp/xen/layout.hpp"

namespace sev::psp::xen {

/// The RFC of May 2025: encrypted memory, no evidence, no secrets.
class RfcCoco : public Coco {
public:
    RfcCoco(CocoCalls& calls, const CocoStatus& status) : calls_{calls}, es_{status.es} {}
    Layout layout() const noexcept override { return Layout::rfc_2025_05; }
    unsigned level() const noexcept override { return 3; }
    CocoStatus status() override;
    void prepare_initial_memory(std::uint16_t domain, std::uint64_t gfn, std::uint64_t frames) override;
    void finish_initial_memory(std::uint16_t domain) override;
    AttestationReport report(std::uint16_t domain, const Mnonce& mnonce) override;
    void set_secrets_area(std::uint16_t domain, Gpa gpa, std::uint64_t length_bytes) override;
    void update_secret(std::uint16_t domain, Gpa gpa, const ByteArray<0x34>& header, ByteView data) override;
    CocoCertificates certificates() override;
    SevCertificate signing_request() override;
    void regenerate(Key key) override;
    void import_certificates(const SevCertificate& pek, const SevCertificate& oca) override;

protected:
    template <std::size_t Size>
    void ask(wire_format::Operation operation, ByteArray<Size>& argument, std::span<const Handle> handles = {}) {
        wire_format::expect_success(operation, calls_.call(static_cast<std::uint32_t>(operation), argument, handles));
    }
    CocoCalls& calls_;
    bool es_;

private:
    [[noreturn]] void lacks(wire_format::Operation operation) const;
};

/// Vates' branch, in either layout of its attestation report.
class VatesCoco final : public RfcCoco {
public:
    VatesCoco(CocoCalls& calls, const CocoStatus& status, Layout layout) : RfcCoco{calls, status}, layout_{layout} {}
    Layout layout() const noexcept override { return layout_; }
    unsigned level() const noexcept override { return es_ ? 5 : 4; }
    CocoStatus status() override;
    void finish_initial_memory(std::uint16_t domain) override;
    AttestationReport report(std::uint16_t domain, const Mnonce& mnonce) override;
    void set_secrets_area(std::uint16_t domain, Gpa gpa, std::uint64_t length_bytes) override;
    void update_secret(std::uint16_t domain, Gpa gpa, const ByteArray<0x34>& header, ByteView data) override;
    CocoCertificates certificates() override;
    SevCertificate signing_request() override;
    void regenerate(Key key) override;
    void import_certificates(const SevCertificate& pek, const SevCertificate& oca) override;

private:
    Layout layout_;
};

} // namespace sev::psp::xen
