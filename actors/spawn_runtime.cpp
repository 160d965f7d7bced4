#include "actors/embedding_session.hpp"
#include "actors/library_folder.hpp"
#include "actors/moira/runtime.hpp"
#include "actors/runtime_error.hpp"
#include "actors/runtime_start.hpp"
#include "config/settings_load.hpp"

namespace moira {

namespace {

log_function log_to(const runtime_options& options) {
    if (!options.log)
        return {};
    return [hear = options.log](log_level level, const std::string& sentence) {
        constexpr const char* names[] = {"debug", "info", "warning", "error"};
        hear(names[static_cast<std::size_t>(level)], sentence);
    };
}

runtime_surroundings surroundings_of(const runtime_options& options, const settings& all) {
    runtime_surroundings place;
    place.model = options.model_folder.empty() ? bundled_model_folder() : std::filesystem::path(options.model_folder);
    for (const auto& folder : options.plugin_folders)
        place.plugin_folders.emplace_back(folder);
    if (place.plugin_folders.empty() && !all.plugins.path.empty())
        place.plugin_folders.emplace_back(all.plugins.path);
    if (place.plugin_folders.empty())
        place.plugin_folders = bundled_plugin_folders();
    place.log = log_to(options);
    return place;
}

result<runtime_actor> spawn(caf::actor_system& system, const runtime_options& options) {
    const auto loaded = parse_settings(options.settings_toml, "settings_toml", options.settings);
    if (!loaded)
        return tl::unexpected(loaded.error());
    const auto& all = loaded->values;
    const auto place = surroundings_of(options, all);
    auto opened = model_room::open(all, place);
    if (!opened)
        return tl::unexpected(opened.error());
    // The parts hold the model; the last of them to end takes the whole room with it.
    const auto room = std::make_shared<model_room>(std::move(*opened));
    const std::shared_ptr<engine> model(room, room->model.get());
    const auto parts = supervisor_options_of(all, model, room->pool->size(), place.log);
    if (!parts)
        return tl::unexpected(parts.error());
    return spawn_embedding_session(system, {spawn_supervisor(system, *parts), parts->identity, model});
}

} // namespace

caf::actor_system_config& add_message_types(caf::actor_system_config& config) {
    config.add_message_types<caf::id_block::moira_runtime>();
    return config.add_error_category(runtime_error_category,
                                     [](std::uint8_t code, caf::atom_value, const caf::message& context) {
                                         const auto failure = caf::error(code, runtime_error_category, context);
                                         return error_code(failure) + ": " + error_message(failure);
                                     });
}

caf::expected<runtime_actor> spawn_runtime(caf::actor_system& system, const runtime_options& options) {
    auto spawned = spawn(system, options);
    if (!spawned)
        return to_caf_error(spawned.error());
    return std::move(*spawned);
}

std::string error_code(const caf::error& failure) {
    if (!failure || failure.category() != runtime_error_category)
        return {};
    return std::string(describe(static_cast<errc>(failure.code())).name);
}

std::string error_message(const caf::error& failure) {
    std::string sentence;
    if (failure && failure.context().match_elements<std::string>())
        sentence = failure.context().get_as<std::string>(0);
    return sentence;
}

} // namespace moira
