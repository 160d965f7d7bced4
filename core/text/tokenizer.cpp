#include "core/text/tokenizer.hpp"

#include "core/text/byte_level.hpp"
#include "core/base/read_only_file.hpp"
#include "core/text/text_stream.hpp"
#include "core/text/tokenizer_json.hpp"

namespace moira {

struct tokenizer::impl {
    tokenizer_parts parts;
    tokenizer_limits limits;

    void encode_piece(std::string_view piece, byte_pair_encoder::scratch& memory, std::vector<token_id>& ids) const {
        if (parts.ignore_merges)
            if (const auto whole = parts.tokens.id_of(to_byte_level(piece))) {
                ids.push_back(*whole);
                return;
            }
        parts.encoder.encode(piece, memory, ids);
    }
};

tokenizer::tokenizer(std::unique_ptr<const impl> parts) : impl_(std::move(parts)) {}
tokenizer::tokenizer(tokenizer&&) noexcept = default;
tokenizer& tokenizer::operator=(tokenizer&&) noexcept = default;
tokenizer::~tokenizer() = default;

result<tokenizer> tokenizer::load(const std::filesystem::path& folder, const tokenizer_limits& limits) {
    const std::filesystem::path path = folder / "tokenizer.json";
    const auto json = read_text_file(path, limits.file_bytes_max);
    if (!json)
        return tl::make_unexpected(json.error());
    return parse(*json, path.string(), limits);
}

result<tokenizer> tokenizer::parse(std::string_view json, std::string_view name, const tokenizer_limits& limits) {
    if (json.size() > limits.file_bytes_max)
        return fail(errc::corrupt_file, std::string(name) + ": " + std::to_string(json.size()) + " bytes; at most " +
                                            std::to_string(limits.file_bytes_max));
    auto parts = read_tokenizer_json(json, name);
    if (!parts)
        return tl::make_unexpected(parts.error());
    return tokenizer(std::make_unique<const impl>(impl{std::move(*parts), limits}));
}

result<std::vector<token_id>> tokenizer::encode(std::string_view text, special mode) const {
    if (text.size() > impl_->limits.text_bytes_max)
        return fail(errc::prompt_too_long, "a text of " + std::to_string(text.size()) + " bytes; at most " +
                                               std::to_string(impl_->limits.text_bytes_max));
    if (!is_utf8(text))
        return fail(errc::invalid_utf8, "the text to tokenize is not UTF-8");
    const tokenizer_parts& parts = impl_->parts;
    std::vector<token_id> ids;
    if (mode == special::add)
        ids = parts.prefix;
    pre_tokenizer_scratch cutting;
    byte_pair_encoder::scratch merging;
    std::vector<std::string_view> pieces;
    for (const auto& part : parts.added.split(text)) {
        if (part.id >= 0) {
            ids.push_back(part.id);
            continue;
        }
        if (auto cut = parts.cutter.split(part.text, cutting, pieces); !cut)
            return tl::make_unexpected(cut.error());
        for (const std::string_view piece : pieces)
            impl_->encode_piece(piece, merging, ids);
    }
    if (mode == special::add)
        ids.insert(ids.end(), parts.suffix.begin(), parts.suffix.end());
    return ids;
}

std::string_view tokenizer::token_bytes(token_id id, bool with_special) const {
    const auto* token = impl_->parts.tokens.find(id);
    if (token == nullptr)
        return {};
    if (token->special)
        return with_special ? std::string_view(token->text) : std::string_view();
    return token->bytes;
}

std::string tokenizer::decode(const std::vector<token_id>& ids, bool with_special) const {
    utf8_stream stream;
    std::string text;
    for (const token_id id : ids)
        text += stream.push(token_bytes(id, with_special));
    return text + stream.finish();
}

std::size_t tokenizer::vocabulary_size() const noexcept {
    return impl_->parts.tokens.size();
}

std::optional<token_id> tokenizer::id_of(std::string_view token) const {
    return impl_->parts.tokens.id_of(token);
}

bool tokenizer::is_special(token_id id) const noexcept {
    const auto* token = impl_->parts.tokens.find(id);
    return token != nullptr && token->special;
}

} // namespace moira
