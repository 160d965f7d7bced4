#include "core/text/tokenizer_json.hpp"

#include "core/text/byte_level.hpp"
#include "core/text/json_reading.hpp"
#include "core/text/tokenizer_steps_json.hpp"

#include <utility>

namespace moira {
namespace {

result<token_id> read_id(const json_place& place) {
    const auto id = place.integer();
    if (!id)
        return tl::make_unexpected(id.error());
    if (*id < 0 || *id > vocabulary::id_max)
        return fail(errc::corrupt_file, place.path() + ": token id " + std::to_string(*id) + " is outside 0 .. " +
                                            std::to_string(vocabulary::id_max));
    return static_cast<token_id>(*id);
}

result<std::vector<vocabulary::entry>> read_vocabulary(const json_place& vocab) {
    if (auto shape = vocab.expect_object(); !shape)
        return tl::make_unexpected(shape.error());
    std::vector<vocabulary::entry> entries;
    entries.reserve(vocab.size());
    for (const auto& [text, id] : vocab.value().items()) {
        const auto read = read_id({id, vocab.path() + "['" + text + "']"});
        if (!read)
            return tl::make_unexpected(read.error());
        entries.push_back({*read, false, text, from_byte_level(text)});
    }
    return entries;
}

result<added_token> read_added_token(const json_place& place, bool& special) {
    if (auto shape = place.expect_object(); !shape)
        return tl::make_unexpected(shape.error());
    added_token token;
    const auto id = read_id(place.member("id"));
    if (!id)
        return tl::make_unexpected(id.error());
    auto content = place.member("content").string();
    if (!content)
        return tl::make_unexpected(content.error());
    if (content->size() > added_token_matcher::content_bytes_max)
        return fail(errc::corrupt_file, place.path() + ".content: longer than " +
                                            std::to_string(added_token_matcher::content_bytes_max) + " bytes");
    token.id = *id;
    token.content = std::move(*content);
    const std::pair<const char*, bool*> flags[] = {{"special", &special},
                                                   {"normalized", &token.normalized},
                                                   {"lstrip", &token.left_strip},
                                                   {"rstrip", &token.right_strip},
                                                   {"single_word", &token.single_word}};
    for (const auto& [key, flag] : flags) {
        const auto value = place.member(key).boolean(false);
        if (!value)
            return tl::make_unexpected(value.error());
        *flag = *value;
    }
    return token;
}

/// Reads the added tokens and joins them with the model's vocabulary, where many of them are listed a second time.
result<std::vector<added_token>> read_added_tokens(const json_place& list, std::vector<vocabulary::entry>& entries) {
    std::vector<added_token> tokens;
    if (list.is_null())
        return tokens;
    if (auto shape = list.expect_array(); !shape)
        return tl::make_unexpected(shape.error());
    std::unordered_map<std::string, std::size_t> position; // of every token in `entries`
    for (std::size_t i = 0; i < entries.size(); ++i)
        position.emplace(entries[i].text, i);
    for (std::size_t i = 0; i < list.size(); ++i) {
        const json_place place = list.element(i);
        bool special = false;
        auto token = read_added_token(place, special);
        if (!token)
            return tl::make_unexpected(token.error());
        const auto [found, is_new] = position.emplace(token->content, entries.size());
        if (is_new)
            entries.push_back({token->id, special, token->content, from_byte_level(token->content)});
        else if (entries[found->second].id != token->id)
            return fail(errc::corrupt_file, place.path() + ": '" + token->content + "' has id " +
                                                std::to_string(token->id) + " here and " +
                                                std::to_string(entries[found->second].id) + " elsewhere");
        else
            entries[found->second].special = entries[found->second].special || special;
        tokens.push_back(std::move(*token));
    }
    return tokens;
}

/// Both sides of a merge, written as "a b" or ["a", "b"].
result<std::pair<std::string, std::string>> read_merge(const json_place& place) {
    if (place.is_string()) {
        const auto& text = place.value().get_ref<const std::string&>();
        const std::size_t space = text.find(' ');
        if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
            return place.wrong("two tokens with one space between");
        return std::pair{text.substr(0, space), text.substr(space + 1)};
    }
    if (!place.value().is_array() || place.size() != 2 || !place.element(0).is_string() ||
        !place.element(1).is_string())
        return place.wrong("two tokens");
    return std::pair{place.value()[0].get<std::string>(), place.value()[1].get<std::string>()};
}

result<void> read_merges(const json_place& list, tokenizer_parts& parts) {
    if (auto shape = list.expect_array(); !shape)
        return shape;
    std::vector<byte_pair_encoder::merge> merges;
    merges.reserve(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
        const auto sides = read_merge(list.element(i));
        if (!sides)
            return tl::make_unexpected(sides.error());
        const auto left = parts.tokens.id_of(sides->first);
        const auto right = parts.tokens.id_of(sides->second);
        const auto merged = parts.tokens.id_of(sides->first + sides->second);
        if (!left || !right || !merged)
            return fail(errc::corrupt_file, list.element(i).path() + ": '" + sides->first + "', '" + sides->second +
                                                "' or both together are not in the vocabulary");
        merges.push_back({*left, *right, *merged});
    }
    parts.encoder.set_merges(merges);
    return {};
}

/// Refuses the options of BPE that change the result and that byte-level models leave off.
result<void> check_model_options(const json_place& model) {
    if (const auto type = model.member("type"); !type.is_null()) {
        const auto name = type.string();
        if (!name)
            return tl::make_unexpected(name.error());
        if (*name != "BPE")
            return type.unsupported("the model '" + *name + "'; it reads BPE");
    }
    if (!model.member("dropout").is_null() && model.member("dropout").value() != 0.0)
        return model.member("dropout").unsupported("dropout");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        const json_place option = model.member(key);
        if (!option.is_null() && option.value() != "")
            return option.unsupported(key);
    }
    const auto byte_fallback = model.member("byte_fallback").boolean(false);
    if (!byte_fallback)
        return tl::make_unexpected(byte_fallback.error());
    if (*byte_fallback)
        return model.member("byte_fallback").unsupported("byte_fallback (a SentencePiece model)");
    return {};
}

result<void> read_unknown(const json_place& model, tokenizer_parts& parts) {
    const json_place place = model.member("unk_token");
    if (place.is_null())
        return {};
    const auto text = place.string();
    if (!text)
        return tl::make_unexpected(text.error());
    const auto fuse = model.member("fuse_unk").boolean(false);
    if (!fuse)
        return tl::make_unexpected(fuse.error());
    const auto id = parts.tokens.id_of(*text);
    // Some files name one that was never trained: with all 256 bytes in the vocabulary it is never asked for.
    if (id)
        parts.encoder.set_unknown(*id, *fuse);
    return {};
}

result<void> read_model(const json_place& root, tokenizer_parts& parts) {
    const json_place model = root.member("model");
    if (auto shape = model.expect_object(); !shape)
        return shape;
    if (auto options = check_model_options(model); !options)
        return options;
    auto entries = read_vocabulary(model.member("vocab"));
    if (!entries)
        return tl::make_unexpected(entries.error());
    auto added = read_added_tokens(root.member("added_tokens"), *entries);
    if (!added)
        return tl::make_unexpected(added.error());
    auto tokens = vocabulary::build(std::move(*entries));
    if (!tokens)
        return fail(tokens.error().code, model.path() + ".vocab: " + tokens.error().message);
    parts.tokens = std::move(*tokens);
    parts.added.set_tokens(std::move(*added));
    for (int byte = 0; byte < 256; ++byte)
        if (const auto id = parts.tokens.id_of(byte_level_character(static_cast<unsigned char>(byte))))
            parts.encoder.set_byte_token(static_cast<unsigned char>(byte), *id);
    const auto ignore_merges = model.member("ignore_merges").boolean(false);
    if (!ignore_merges)
        return tl::make_unexpected(ignore_merges.error());
    parts.ignore_merges = *ignore_merges;
    if (auto unknown = read_unknown(model, parts); !unknown)
        return unknown;
    return read_merges(model.member("merges"), parts);
}

} // namespace

result<tokenizer_parts> read_tokenizer_json(std::string_view json, std::string_view name) {
    const auto document = parse_json_file(json, name);
    if (!document)
        return tl::make_unexpected(document.error());
    const json_place root(*document, std::string(name) + ": $");
    tokenizer_parts parts;
    if (auto shape = root.expect_object(); !shape)
        return tl::make_unexpected(shape.error());
    if (auto done = check_normalizer(root.member("normalizer")); !done)
        return tl::make_unexpected(done.error());
    if (auto done = read_pre_tokenizer(root.member("pre_tokenizer"), parts.cutter); !done)
        return tl::make_unexpected(done.error());
    if (auto done = check_decoder(root.member("decoder")); !done)
        return tl::make_unexpected(done.error());
    if (auto done = read_model(root, parts); !done)
        return tl::make_unexpected(done.error());
    if (auto done = read_post_processor(root.member("post_processor"), parts); !done)
        return tl::make_unexpected(done.error());
    return parts;
}

} // namespace moira
