#include "tests/batch/reference_generation.hpp"

#include "core/text/text_stream.hpp"
#include "tests/batch/fake_stream.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace moira::test {

std::string_view fake_bytes(token_id token) {
    static constexpr std::array<std::string_view, fake_vocabulary> texts{
        "",  "\xC3", "\xA9", "a", "b", "ab", "ba",  "aa", " ", "c",  "ca", "\n",
        "x", "y",    "xy",   "z", "q", "-",  "bab", ".",  "!", "no", "on", "\xE2\x82\xAC"};
    return texts[static_cast<std::size_t>(token)];
}

namespace {

std::optional<std::size_t> earliest_stop(const std::string& text, const std::vector<std::string>& stops) {
    std::size_t earliest = std::string::npos;
    for (const std::string& stop : stops)
        earliest = std::min(earliest, text.find(stop));
    return earliest == std::string::npos ? std::nullopt : std::optional(earliest);
}

} // namespace

reference_result generate_alone(const generation_request& request, std::int64_t context_max) {
    reference_result result;
    std::vector<token_id> tokens = request.prompt;
    std::uint64_t history = 0;
    for (const token_id token : tokens)
        history = extend_history(history, token);
    logits_hash hash;
    std::string bytes;
    std::optional<std::size_t> cut;
    while (std::ssize(result.token_ids) < request.tokens_max && std::ssize(tokens) < context_max) {
        const auto logits = fake_logits(history, fake_vocabulary);
        hash.add(logits);
        const token_id token = sample_token(logits, request.sampling, std::ssize(tokens), tokens);
        tokens.push_back(token);
        result.token_ids.push_back(token);
        history = extend_history(history, token);
        if (token == fake_eos && !request.ignore_eos) {
            result.reason = finish_reason::stop;
            break;
        }
        bytes += fake_bytes(token);
        cut = earliest_stop(utf8_stream{}.push(bytes), request.stop);
        if (cut) {
            result.reason = finish_reason::stop;
            break;
        }
    }
    utf8_stream characters;
    result.text = characters.push(bytes);
    if (!cut) {
        result.text += characters.finish();
        cut = earliest_stop(result.text, request.stop);
    }
    if (cut)
        result.text.resize(*cut);
    result.logits_hash = hash.hex();
    return result;
}

} // namespace moira::test
