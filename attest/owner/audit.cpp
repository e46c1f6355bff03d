// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/audit.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest::owner {
namespace {

constexpr std::size_t text_limit = 1024;
constexpr std::uint64_t seq_limit = std::uint64_t{1} << 53;

json::Value begun(const AuditHead& head, Time now, std::string_view event) {
    return {{"seq", head.seq + 1}, {"time", text(now)}, {"prev", hex(head.hash)}, {"event", event}};
}

AuditRecord finished(const json::Value& value) {
    AuditRecord record{.seq = value.at("seq").get<std::uint64_t>(), .text = value.dump()};
    require(record.text.size() <= audit_record_limit_bytes, "an audit record fits its limit");
    return record;
}

} // namespace

std::string audit_head_payload(const AuditHead& head) { return json::Value{{"seq", head.seq}, {"head", hex(head.hash)}}.dump(); }

AuditRecord audit_record(const AuditHead& head, const AuditEvent& event, Time now) {
    json::Value value = begun(head, now, event.event);
    const auto put = [&](const char* key, const std::string& content) {
        if (!content.empty()) value[key] = printable(content, text_limit);
    };
    put("channel", event.channel);
    put("session", event.session);
    put("launch", event.launch);
    put("policy", event.policy);
    put("request", event.request);
    put("detail", event.detail);
    return finished(value);
}

AuditRecord audit_signature(const AuditHead& head, const HeadSigner& signer, Time now) {
    json::Value value = begun(head, now, "head.signed");
    value["signature"] = signer(head);
    return finished(value);
}

AuditHead head_after(const AuditRecord& record) { return {.seq = record.seq, .hash = sha256(as_bytes(record.text))}; }

void AuditVerifier::add(const AuditRecord& record) {
    const std::string what = fmt::format("audit record {}", record.seq);
    const auto refuse = [&](std::string_view problem) { throw Error{Fault::malformed, fmt::format("{}: {}", what, problem)}; };
    if (record.seq != head_.seq + 1)
        refuse(fmt::format("follows record {}: {} missing", head_.seq, record.seq > head_.seq ? record.seq - head_.seq - 1 : 0));
    const json::Value value = json::parse(record.text, what, {.bytes = audit_record_limit_bytes, .depth = 2});
    json::Object object{value, what};
    if (object.number("seq", seq_limit) != record.seq) object.refuse("seq", "is not its place in the log");
    parse_time(object.string("time", 64), what + ": time");
    if (object.hex<32>("prev") != head_.hash)
        object.refuse("prev", fmt::format("is not the SHA-256 of record {}: that one, or this, was changed", head_.seq));
    if (object.string("event", 128) == "head.signed") {
        const std::string payload = verify_jws(object.string("signature", audit_record_limit_bytes), owner_, audit_head_type, what + ": signature");
        if (payload != audit_head_payload(head_)) refuse("signs another head than the record before it");
        last_signed_ = record.seq;
        ++signatures_;
    } else {
        for (const char* key : {"channel", "session", "launch", "policy", "request", "detail"})
            if (object.has(key)) object.string(key, 8 * text_limit);
    }
    object.done();
    head_ = head_after(record);
    if (known_ && known_->seq == head_.seq) {
        if (known_->hash != head_.hash) refuse("is not the record that was noted down: the log was rewritten");
        known_found_ = true;
    }
}

AuditVerifier::Summary AuditVerifier::finish(const AuditHead& stored) const {
    if (stored != head_)
        throw Error{Fault::malformed, fmt::format("audit log: ends with record {} ({}), and the store says {} ({}): its end was cut off or changed",
                                                  head_.seq, hex(head_.hash), stored.seq, hex(stored.hash))};
    if (known_ && known_->seq != 0 && !known_found_)
        throw Error{Fault::malformed,
                    fmt::format("audit log: ends with record {}, before record {} that was noted down: its end was cut off", head_.seq, known_->seq)};
    return {.head = head_, .signatures = signatures_, .unsigned_tail = head_.seq - last_signed_};
}

} // namespace sev::attest::owner
