// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "psp/xen/adapters.hpp"

namespace sev::psp::xen {
namespace {

using wire_format::Operation;

constexpr std::size_t room_bytes = 64 * 1024;        // far above every argument seen, so that an unknown layout cannot write beyond it
constexpr std::uint16_t no_domain = 0x7FF4;           // DOMID_INVALID: no domain ever has it

/// How many bytes the hypervisor writes for operation 0, and what: those that come out the same whether they were zeros or ones.
struct Written {
    int error_number = 0;
    Bytes bytes;
};
Written written_by_status(CocoCalls& calls) {
    Bytes zeros(room_bytes, 0x00), ones(room_bytes, 0xFF);
    Written out;
    const auto operation = static_cast<std::uint32_t>(Operation::platform_status);
    out.error_number = calls.call(operation, zeros, {});
    if (out.error_number == 0) out.error_number = calls.call(operation, ones, {});
    std::size_t size = room_bytes;
    while (size > 0 && zeros[size - 1] == 0x00 && ones[size - 1] == 0xFF) --size;
    out.bytes.assign(zeros.begin(), zeros.begin() + static_cast<std::ptrdiff_t>(size));
    return out;
}

int try_operation(CocoCalls& calls, Operation operation) {
    Bytes argument(room_bytes, 0x00);
    argument[0] = no_domain & 0xFF;
    argument[1] = no_domain >> 8;
    return calls.call(static_cast<std::uint32_t>(operation), argument, {});
}

/// Whether operation 0's answer says that SEV is supported; the fields that say so lie alike in all layouts.
bool says_supported(const Bytes& status) {
    if (status.size() < CocoStatus::rfc_size) return false;
    const wire::View<CocoStatus::rfc_size> v{status.data(), CocoStatus::rfc_size};
    return wire::le32<0>(v) == static_cast<std::uint32_t>(Platform::amd_sev) && (wire::le32<8>(v) & 1U) != 0;
}

/// The layout, or why there is none.
struct Found {
    std::optional<Layout> layout;
    std::string problem;
};
Found layout_of(CocoCalls& calls, std::size_t status_bytes, std::optional<Layout> named) {
    const bool has_reports = try_operation(calls, Operation::attestation_report) != ENOSYS;
    if (status_bytes == CocoStatus::rfc_size && !has_reports) {
        if (named && *named != Layout::rfc_2025_05)
            return {std::nullopt, fmt::format("the coco hypercall has the layout rfc-2025-05, and the host's configuration names {}", name(*named))};
        return {Layout::rfc_2025_05, {}};
    }
    if (status_bytes == CocoStatus::vates_size && has_reports) {
        if (!named)
            return {std::nullopt,
                    "the coco hypercall is that of Vates' branch, whose layouts vates-a and vates-b cannot be told apart from here: name one"};
        if (*named == Layout::rfc_2025_05)
            return {std::nullopt, "the coco hypercall is that of Vates' branch, and the host's configuration names rfc-2025-05"};
        return {named, {}};
    }
    return {std::nullopt,
            fmt::format("the coco hypercall has an unknown layout: a status of {} bytes {} reports; known are 24 without and 28 with reports",
                        status_bytes, has_reports ? "with" : "without")};
}

} // namespace

CocoProbe probe(CocoCalls& calls, std::optional<Layout> named) {
    using Answer = CocoProbe::Answer;
    const Written status = written_by_status(calls);
    CocoProbe out;
    const auto with = [&](Answer answer, std::string sentence) {
        out.answer = answer;
        out.sentence = std::move(sentence);
        return std::move(out);
    };
    out.error_number = status.error_number;
    if (status.error_number == ENOSYS)
        return with(Answer::absent, "this Xen has no coco hypercall (ENOSYS): guests can be measured and not encrypted, level L1");
    if (status.error_number != 0)
        return with(Answer::refused, fmt::format("the coco hypercall is refused: {}", std::strerror(status.error_number)));
    out.status_bytes = status.bytes;
    if (says_supported(status.bytes)) out.certificates_error = try_operation(calls, Operation::platform_certificates);
    if (try_operation(calls, Operation::snp_platform_limits) != ENOSYS)
        return with(Answer::unknown, "the coco hypercall is the revision with SEV-SNP operations, which this version does not speak");
    const Found found = layout_of(calls, status.bytes.size(), named);
    if (!found.layout) return with(Answer::unknown, found.problem);

    out.layout = found.layout;
    out.status = *found.layout == Layout::rfc_2025_05 ? CocoStatus::parse_rfc(wire::exactly<CocoStatus::rfc_size>(status.bytes, "coco status"))
                                                      : CocoStatus::parse_vates(wire::exactly<CocoStatus::vates_size>(status.bytes, "coco status"));
    const std::string layout_text = fmt::format("coco hypercall, layout {}", name(*found.layout));
    if (out.status->platform != Platform::amd_sev || !out.status->supported) {
        return with(Answer::unsupported, fmt::format("{}: {}", layout_text,
                                                     out.status->platform != Platform::amd_sev ? "the platform is not AMD SEV"
                                                     : out.status->unsafe                      ? "SEV is there and switched off as unsafe"
                                                                                               : "SEV is not supported on this machine"));
    }
    if (*found.layout == Layout::rfc_2025_05) out.coco = std::make_unique<RfcCoco>(calls, *out.status);
    else out.coco = std::make_unique<VatesCoco>(calls, *out.status, *found.layout);
    return with(Answer::usable,
                fmt::format("{}: SEV{} is supported, level L{}", layout_text, out.status->es ? " with SEV-ES" : "", out.coco->level()));
}

} // namespace sev::psp::xen
