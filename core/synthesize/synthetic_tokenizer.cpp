// A tokenizer without training: a token for every byte, and invented words up to the size of the model's vocabulary, so
// that every id has a text. No merges: text becomes one token per byte.
#include "core/synthesize/synthetic_shape.hpp"
#include "core/text/byte_level.hpp"

#include <nlohmann/json.hpp>

namespace moira {

namespace {

using json = nlohmann::ordered_json;

constexpr token_id byte_tokens = 256;
constexpr const char* begin_text = "<|begin_of_text|>";

struct special_token {
    token_id id = 0;
    const char* text = "";
};

std::vector<special_token> special_tokens(const synthetic_shape& shape) {
    std::vector<special_token> tokens{{shape.eos, "<|end_of_text|>"}};
    if (shape.bos)
        tokens.push_back({*shape.bos, begin_text});
    if (shape.pad)
        tokens.push_back({*shape.pad, "<|padding|>"});
    return tokens;
}

/// Of the families here only DeepSeek's tokenizers put a token in front of every text.
bool adds_bos(const synthetic_shape& shape) {
    return shape.family == synthetic_family::deepseek_v2 && shape.bos;
}

json post_processor(const synthetic_shape& shape) {
    if (!adds_bos(shape))
        return nullptr;
    const json begin{{"SpecialToken", {{"id", begin_text}, {"type_id", 0}}}};
    const json text{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, second{{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
    const json token{{"id", begin_text}, {"ids", json::array({*shape.bos})}, {"tokens", json::array({begin_text})}};
    return {{"type", "TemplateProcessing"},
            {"single", json::array({begin, text})},
            {"pair", json::array({begin, text, second})},
            {"special_tokens", {{begin_text, token}}}};
}

/// JSON text of a string.
std::string json_text(std::string_view text) {
    return json(text).dump();
}

/// Written by hand: an ordered_json object searches linearly at every insertion.
std::string vocabulary_json(const synthetic_shape& shape, const std::vector<special_token>& special) {
    std::vector<bool> taken(static_cast<std::size_t>(shape.vocabulary), false);
    for (const auto& token : special)
        taken[static_cast<std::size_t>(token.id)] = true;
    std::string text = "{";
    int byte = 0; // bytes take the first free ids
    for (token_id id = 0; id < shape.vocabulary; ++id) {
        if (taken[static_cast<std::size_t>(id)])
            continue;
        const std::string word = byte < byte_tokens
                                     ? std::string(byte_level_character(static_cast<unsigned char>(byte++)))
                                     : to_byte_level(" word" + std::to_string(id));
        if (text.size() > 1)
            text += ',';
        text += json_text(word) + ":" + std::to_string(id);
    }
    return text + "}";
}

} // namespace

std::string synthetic_tokenizer_json(const synthetic_shape& shape) {
    const auto special = special_tokens(shape);
    auto added = json::array();
    for (const auto& token : special)
        added.push_back({{"id", token.id},
                         {"content", token.text},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", true}});
    const json byte_level{
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
    json head{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added},
              {"normalizer", nullptr},
              {"pre_tokenizer", byte_level},
              {"post_processor", post_processor(shape)},
              {"decoder", byte_level}};
    std::string text = head.dump();
    text.pop_back(); // the closing brace
    return text +
           ",\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
           "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"vocab\":" +
           vocabulary_json(shape, special) + ",\"merges\":[]}}\n";
}

std::string synthetic_tokenizer_config_json(const synthetic_shape& shape) {
    json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                {"bos_token", shape.bos ? json(begin_text) : json(nullptr)},
                {"eos_token", "<|end_of_text|>"},
                {"add_bos_token", adds_bos(shape)},
                {"add_eos_token", false},
                {"clean_up_tokenization_spaces", false},
                {"model_max_length", shape.context_max},
                {"chat_template", "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' "
                                  "}}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"}};
    if (shape.pad)
        config["pad_token"] = "<|padding|>";
    return config.dump(2) + "\n";
}

} // namespace moira
