#include "tools/moira/model_lookup.hpp"

#include "config/spelling.hpp"
#include "tools/moira/executable_path.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <system_error>

namespace moira {

namespace {

namespace fs = std::filesystem;

/// More than anybody keeps in one folder; a folder with more is not one of models.
constexpr std::size_t entries_per_folder_max = 10'000;
constexpr std::size_t name_bytes_max = 256;
constexpr std::size_t near_names_max = 5;

bool is_model_folder(const fs::path& folder) {
    std::error_code code;
    return fs::is_regular_file(folder / "config.json", code) || fs::is_regular_file(folder / "tokenizer.json", code);
}

/// Sorted, so that every run sees the same order.
std::vector<fs::path> folders_in(const fs::path& parent) {
    std::vector<fs::path> folders;
    std::error_code code;
    fs::directory_iterator entry(parent, code);
    for (const fs::directory_iterator end; !code && entry != end; entry.increment(code)) {
        std::error_code ignored;
        if (folders.size() < entries_per_folder_max && entry->is_directory(ignored))
            folders.push_back(entry->path());
    }
    std::sort(folders.begin(), folders.end());
    return folders;
}

/// "models--org--name" as the hub's client writes it; empty for other folders.
std::string hub_name(const fs::path& folder) {
    constexpr std::string_view prefix = "models--";
    std::string name = folder.filename().string();
    if (!name.starts_with(prefix))
        return {};
    name = name.substr(prefix.size());
    if (const auto dashes = name.find("--"); dashes != std::string::npos)
        return name.substr(0, dashes).append("/").append(name, dashes + 2);
    return name;
}

/// The snapshot that refs/main names, else the one written last; empty when there is none.
fs::path hub_snapshot(const fs::path& folder) {
    constexpr std::size_t revision_bytes = 40; // a git commit in hexadecimal
    std::string revision(revision_bytes, '\0');
    std::ifstream main_revision(folder / "refs" / "main");
    if (main_revision.read(revision.data(), static_cast<std::streamsize>(revision.size())) &&
        revision.find_first_not_of("0123456789abcdef") == std::string::npos &&
        is_model_folder(folder / "snapshots" / revision))
        return folder / "snapshots" / revision;
    fs::path newest;
    fs::file_time_type newest_time;
    for (const auto& snapshot : folders_in(folder / "snapshots")) {
        std::error_code code;
        const auto written = fs::last_write_time(snapshot, code);
        if (!code && is_model_folder(snapshot) && (newest.empty() || written > newest_time)) {
            newest = snapshot;
            newest_time = written;
        }
    }
    return newest;
}

void add_plain(std::vector<found_model>& models, const fs::path& parent, const char* place) {
    for (const auto& folder : folders_in(parent))
        if (is_model_folder(folder))
            models.push_back({folder.filename().string(), folder, place});
}

void add_hub(std::vector<found_model>& models, const fs::path& hub) {
    if (hub.empty())
        return;
    for (const auto& folder : folders_in(hub))
        if (std::string name = hub_name(folder); !name.empty())
            if (fs::path snapshot = hub_snapshot(folder); !snapshot.empty())
                models.push_back({std::move(name), std::move(snapshot), "hugging face cache"});
}

std::vector<found_model> all_models(const model_places& places) {
    std::vector<found_model> models;
    for (const auto& folder : places.own)
        add_plain(models, folder, "model.path");
    for (const auto& folder : places.bundled)
        add_plain(models, folder, "bundled");
    add_hub(models, places.hugging_face_hub);
    return models;
}

std::string_view without_organisation(std::string_view name) {
    const auto slash = name.rfind('/');
    return slash == std::string_view::npos ? name : name.substr(slash + 1);
}

/// Names that a person may have meant, nearest first.
std::vector<std::string> near_names(std::string_view wanted, const std::vector<found_model>& models) {
    std::vector<std::pair<std::size_t, std::string>> near;
    for (const auto& model : models) {
        if (model.name.size() > name_bytes_max)
            continue;
        const bool part = model.name.find(wanted) != std::string::npos;
        const std::size_t distance = part ? 0
                                          : std::min(spelling_distance(wanted, model.name),
                                                     spelling_distance(wanted, without_organisation(model.name)));
        if (distance <= misspelling_distance_max(wanted))
            near.emplace_back(distance, model.name);
    }
    std::sort(near.begin(), near.end());
    std::vector<std::string> names;
    for (auto& [distance, name] : near)
        if (names.size() < near_names_max && (names.empty() || names.back() != name))
            names.push_back(std::move(name));
    return names;
}

tl::unexpected<error> no_such_model(std::string_view wanted, const std::vector<found_model>& models) {
    std::string message =
        "model \"" + std::string(wanted.substr(0, name_bytes_max)) + "\": no folder and no known model has this name";
    const auto near = wanted.size() <= name_bytes_max ? near_names(wanted, models) : std::vector<std::string>{};
    if (near.empty())
        return fail(errc::not_found, message + "; `moira list` shows the models, model.path adds folders");
    message += "; did you mean ";
    for (const auto& name : near)
        message += (&name == &near.front() ? "" : ", ") + name;
    return fail(errc::not_found, message + "?");
}

result<found_model> model_at(const fs::path& folder) {
    if (!is_model_folder(folder))
        return fail(errc::not_found, "model folder " + folder.string() +
                                         ": found neither config.json nor tokenizer.json, expected a folder in "
                                         "Hugging Face layout");
    std::error_code code;
    const fs::path whole = fs::weakly_canonical(folder, code);
    return found_model{(code ? folder : whole).filename().string(), folder, "path"};
}

fs::path hub_folder() {
    const auto variable = [](const char* name) {
        const char* value = std::getenv(name);
        return fs::path(value == nullptr ? "" : value);
    };
    if (const auto hub = variable("HF_HUB_CACHE"); !hub.empty())
        return hub;
    if (const auto home = variable("HF_HOME"); !home.empty())
        return home / "hub";
    if (const auto cache = variable("XDG_CACHE_HOME"); !cache.empty())
        return cache / "huggingface" / "hub";
    const auto home = variable("HOME");
    return home.empty() ? home : home / ".cache" / "huggingface" / "hub";
}

} // namespace

model_places places_of_models(const settings& all) {
    model_places places;
    for (const auto& folder : all.model.path)
        places.own.push_back(expand_home(folder));
    places.bundled = {(executable_folder() / "../share/moira/models").lexically_normal(), MOIRA_SOURCE_MODELS};
    places.hugging_face_hub = hub_folder();
    return places;
}

result<found_model> find_model(std::string_view wanted, const model_places& places) {
    if (wanted.empty())
        wanted = default_model_name;
    if (wanted.ends_with(".gguf"))
        return fail(errc::unsupported, "model \"" + std::string(wanted.substr(0, name_bytes_max)) +
                                           "\": GGUF files are not in this version; use a folder in Hugging Face "
                                           "layout (config.json, *.safetensors)");
    std::error_code code;
    if (const fs::path folder = expand_home(std::string(wanted)); fs::is_directory(folder, code))
        return model_at(folder);
    const auto models = all_models(places);
    for (const bool whole_name : {true, false})
        for (const auto& model : models)
            if ((whole_name ? std::string_view(model.name) : without_organisation(model.name)) == wanted)
                return model;
    return no_such_model(wanted, models);
}

result<tokenizer> find_tokenizer(std::string_view wanted, const settings& all) {
    const auto model = find_model(wanted, places_of_models(all));
    if (!model)
        return tl::unexpected(model.error());
    return tokenizer::load(model->folder);
}

std::vector<found_model> list_models(const model_places& places) {
    std::vector<found_model> models = all_models(places);
    std::set<std::string, std::less<>> seen;
    std::erase_if(models, [&](const found_model& model) { return !seen.insert(model.name).second; });
    return models;
}

} // namespace moira
