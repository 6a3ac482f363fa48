#include "services/common/origin/origin.h"

static err_t open_preset(const struct job_spec *spec, struct origin *o)
{
    AUTO(arena) arena = {0};
    const char *const *words = NULL;
    size_t count = 0;
    TRY(job_words(spec, &arena, &words, &count));
    TRY(tokenizer_new_words(&o->tokenizer, words, count));
    return model_preset(spec->init.preset, tokenizer_vocab(o->tokenizer), &o->model);
}

err_t origin_add_chat(struct origin *o)
{
    AUTO(buf) template = {0};
    TRY(folder_chat_template(&o->folder, &template));
    TRY(chat_new(&o->chat, buf_span(&template), o->tokenizer));
    int32_t close = chat_close(o->chat);
    return tokenizer_set_eos(o->tokenizer, &close, 1);
}

static err_t open_folder(const struct job_spec *spec, struct origin *o)
{
    const char *sha256 = spec->init.sha256;
    o->pretrained = true;
    TRY(folder_open(spec->init.path, &o->folder));
    if (sha256[0] && strcmp(sha256, o->folder.sha256.hex) != 0)
        return err_set(ERR_conflict, "config and tokenizer of %s have SHA-256 %.12s..., policy.init.sha256 says %.12s...",
                       spec->init.path, o->folder.sha256.hex, sha256);
    TRY(folder_config(&o->folder, &o->hf));
    TRY(folder_tokenizer(&o->folder, &o->hf, &o->tokenizer));
    TRY(folder_weights(&o->folder, &o->hf.model, NULL));
    o->model = o->hf.model;
    return spec->rollout.prompt == JOB_PROMPT_CHAT ? origin_add_chat(o) : ERR_ok;
}

err_t origin_open(const struct job_spec *spec, struct origin *ret)
{
    struct origin o = {0};
    err_t err = spec->init.path[0] ? open_folder(spec, &o) : open_preset(spec, &o);
    if (err != ERR_ok)
        origin_fini(&o);
    else
        *ret = o;
    return err;
}

void origin_fini(struct origin *origin)
{
    chat_free(&origin->chat);
    tokenizer_free(&origin->tokenizer);
    folder_fini(&origin->folder);
    *origin = (struct origin){0};
}

err_t origin_weights(const struct origin *origin, struct model *model)
{
    struct model_config config = origin->model;
    BUG_IF(!origin->pretrained);
    return folder_weights(&origin->folder, &config, model);
}
