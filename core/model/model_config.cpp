#include "core/model/model_config.hpp"

#include "core/model/architectures/architecture.hpp"
#include "core/model/bounded_json.hpp"
#include "core/model/checkpoint.hpp"
#include "core/model/shown_name.hpp"

namespace moira {

namespace {

rope_shape::scaling_kind scaling_kind_of(config_reader& rope) {
    // The Hub's older files say "type", newer ones "rope_type".
    const auto kind = rope.text({"rope_type", "type"}, "default");
    if (kind == "default" || kind == "none")
        return rope_shape::scaling_kind::none;
    if (kind == "linear")
        return rope_shape::scaling_kind::linear;
    if (kind == "llama3")
        return rope_shape::scaling_kind::llama3;
    if (kind == "yarn")
        return rope_shape::scaling_kind::yarn;
    rope.refuse(errc::unsupported,
                "rope_type is " + shown_name(kind) + "; this build computes default, linear, llama3 and yarn");
    return rope_shape::scaling_kind::none;
}

void read_scaling(config_reader& rope, rope_shape& shape, std::int32_t context_max) {
    shape.scaling = scaling_kind_of(rope);
    if (shape.scaling == rope_shape::scaling_kind::none)
        return;
    // An absent original context means that the declared one is the original, as in transformers.
    shape.original_context = rope.integer({"original_max_position_embeddings"}, context_range, context_max);
    if (shape.scaling == rope_shape::scaling_kind::yarn && !rope.has({"factor"}))
        shape.factor = static_cast<double>(context_max) / shape.original_context;
    else
        shape.factor = rope.number({"factor"}, factor_range);
    if (shape.scaling == rope_shape::scaling_kind::llama3) {
        shape.low_frequency_factor = rope.number({"low_freq_factor"}, factor_range);
        shape.high_frequency_factor = rope.number({"high_freq_factor"}, factor_range);
    }
    if (shape.scaling == rope_shape::scaling_kind::yarn) {
        shape.beta_fast = rope.number({"beta_fast"}, factor_range, 32.0);
        shape.beta_slow = rope.number({"beta_slow"}, factor_range, 1.0);
        shape.mscale = rope.number({"mscale"}, {0.0, 1e3}, 0.0);
        shape.mscale_all_dim = rope.number({"mscale_all_dim"}, {0.0, 1e3}, 0.0);
        shape.truncate = rope.flag({"truncate"}, true);
        if (rope.has({"attention_factor"}))
            shape.attention_factor = rope.number({"attention_factor"}, factor_range);
    }
}

result<void> read_special_tokens(const nlohmann::json& config, std::string_view generation_config_json,
                                 const std::string& where, model_shape& shape) {
    nlohmann::json generation = nlohmann::json::object();
    if (!generation_config_json.empty()) {
        auto parsed = parse_json_object(generation_config_json, where + "generation_config.json", errc::invalid_config);
        if (!parsed)
            return tl::unexpected(parsed.error());
        generation = std::move(*parsed);
    }
    config_reader from_generation(generation, where + "generation_config.json: ");
    config_reader from_config(config, where + "config.json: ");
    const integer_range ids{0, shape.vocabulary - 1};
    // Some configurations say -1 or a list for "none"; only a plain id counts as a beginning.
    auto& bos = from_generation.has({"bos_token_id"}) ? from_generation : from_config;
    if (bos.has({"bos_token_id"}))
        shape.bos = bos.integer({"bos_token_id"}, ids);
    auto& eos = from_generation.has({"eos_token_id"}) ? from_generation : from_config;
    shape.eos = eos.integers({"eos_token_id"}, ids, end_tokens_max);
    for (const auto* reader : {&from_generation, &from_config})
        if (reader->failure())
            return tl::unexpected(*reader->failure());
    return {};
}

/// Only the block size changes what is computed: activations are never quantised, whatever activation_scheme says, and
/// each tensor's own type tells whether it is scaled.
void read_weight_blocks(config_reader& config, model_shape& shape) {
    const auto* object = config.object({"quantization_config"});
    if (!object)
        return;
    config_reader quantization(*object, config.where() + "quantization_config: ");
    if (quantization.has({"weight_block_size"})) {
        const auto sides = quantization.integers({"weight_block_size"}, scale_block_range, 2);
        if (sides.size() == 2) {
            shape.scale_block_rows = sides[0];
            shape.scale_block_columns = sides[1];
        } else {
            quantization.refuse(errc::invalid_config, "weight_block_size is no list of two numbers");
        }
    }
    if (quantization.failure())
        config.refuse(quantization.failure()->code, quantization.failure()->message);
}

/// What `moira pack` left: a model that it rounded stays lossy wherever it runs.
void read_packing(config_reader& config, model_shape& shape) {
    const auto* object = config.object({"moira_pack"});
    if (!object)
        return;
    config_reader packing(*object, config.where() + "moira_pack: ");
    shape.quantized_from = packing.text({"quantized_from"}, "");
    if (packing.failure())
        config.refuse(packing.failure()->code, packing.failure()->message);
}

} // namespace

rope_shape read_rope(config_reader& config, std::int32_t width, bool interleaved, std::int32_t context_max) {
    rope_shape shape;
    shape.width = width;
    shape.interleaved = interleaved;
    shape.theta = config.number({"rope_theta"}, theta_range, 10'000.0);
    const auto* object = config.object({"rope_parameters", "rope_scaling"});
    if (!object)
        return shape;
    config_reader rope(*object, "rope parameters: ");
    shape.theta = rope.number({"rope_theta"}, theta_range, shape.theta);
    if (rope.number({"partial_rotary_factor"}, {0.0, 1.0}, 1.0) != 1.0)
        rope.refuse(errc::unsupported, "partial_rotary_factor is not 1; this architecture rotates whole heads");
    read_scaling(rope, shape, context_max);
    if (rope.failure())
        config.refuse(rope.failure()->code, rope.failure()->message);
    return shape;
}

void read_common_dimensions(config_reader& config, model_shape& shape) {
    shape.vocabulary = config.integer({"vocab_size"}, vocabulary_range);
    shape.hidden = config.integer({"hidden_size"}, hidden_range);
    shape.layers = config.integer({"num_hidden_layers"}, layers_range);
    shape.context_max = config.integer({"max_position_embeddings"}, context_range);
    shape.norm_epsilon = config.number({"rms_norm_eps"}, epsilon_range, 1e-6);
    shape.tied_embedding = config.flag({"tie_word_embeddings"}, false);
    config.require_text({"hidden_act"}, "silu");
}

result<model_shape> read_model_config(std::string_view config_json, std::string_view generation_config_json,
                                      std::string_view name) {
    const std::string where = name.empty() ? std::string() : std::string(name) + ": ";
    auto document = parse_json_object(config_json, where + "config.json", errc::invalid_config);
    if (!document)
        return tl::unexpected(document.error());
    config_reader config(*document, where + "config.json: ");
    const auto model_type = config.text({"model_type"}, "");
    const auto* described = find_architecture(model_type);
    if (config.failure())
        return tl::unexpected(*config.failure());
    if (model_type.empty())
        return fail(errc::invalid_config, where + "config.json has no model_type");
    if (!described)
        return fail(errc::unsupported, where + "config.json: model_type is " + shown_name(model_type) +
                                           "; this build runs " + architecture_names());
    model_shape shape;
    shape.architecture = model_type;
    described->read_config(config, shape);
    read_weight_blocks(config, shape);
    read_packing(config, shape);
    if (config.failure())
        return tl::unexpected(*config.failure());
    if (auto read = read_special_tokens(*document, generation_config_json, where, shape); !read)
        return tl::unexpected(read.error());
    if (auto checked = check_shape(shape); !checked)
        return fail(checked.error().code, where + checked.error().message);
    return shape;
}

} // namespace moira
