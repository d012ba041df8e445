"""Makes a .safetensors that Convoke reads as a denoiser of a PyTorch checkpoint of a score network.

    python convert.py ncsnpp checkpoint_95.pth prior.safetensors --points 256
    python convert.py guided-diffusion ema_0.9999.pt prior.safetensors --points 256 --blocks 2 --levels 6 --head-channels 64

Needs torch, numpy and safetensors. Loading a checkpoint may run what is in it: convert those alone whose source you trust (the file is
first tried with weights_only, which runs nothing).
"""

import argparse
import json

import torch
from safetensors.torch import save_file


def load(path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, a person decides
        raise SystemExit(f"{path} holds more than tensors ({error}).\nIf you trust it: torch.load(...) and torch.save its tensors first.")


def ncsnpp(checkpoint):
    """The moving averages of a {optimizer, model, ema, step} checkpoint, with the names of its parameters."""
    if "model" not in checkpoint:
        return {name.removeprefix("module."): value for name, value in checkpoint.items()}
    state = {name.removeprefix("module."): value for name, value in checkpoint["model"].items()}
    state.pop("sigmas", None)
    # Averages are a list, in the order of the parameters that were trained: all but the frequencies.
    averages = checkpoint.get("ema", {}).get("shadow_params")
    if averages is not None:
        trained = [name for name in state if name != "all_modules.0.W"]
        if len(trained) != len(averages):
            raise SystemExit(f"{len(averages)} averages for {len(trained)} parameters")
        for name, value in zip(trained, averages):
            if state[name].shape != value.shape:
                raise SystemExit(f"{name}: {tuple(state[name].shape)} and an average of {tuple(value.shape)}")
            state[name] = value
    return state


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layout", choices=["ncsnpp", "guided-diffusion"])
    parser.add_argument("checkpoint")
    parser.add_argument("file")
    parser.add_argument("--points", type=int, required=True, help="points along an axis of the images it was trained on")
    parser.add_argument("--centred", action="store_true", help="ncsnpp: images were between -1 and 1")
    parser.add_argument("--blocks", type=int, help="guided-diffusion: num_res_blocks")
    parser.add_argument("--levels", type=int, help="guided-diffusion: the length of channel_mult")
    parser.add_argument("--head-channels", type=int, help="guided-diffusion: num_head_channels")
    parser.add_argument("--convolutions", action="store_true", help="guided-diffusion: without resblock_updown")
    parser.add_argument("--new-attention-order", action="store_true", help="guided-diffusion: use_new_attention_order")
    parser.add_argument("--schedule", choices=["linear", "cosine"], default="linear", help="guided-diffusion: noise_schedule")
    parser.add_argument("--times", type=int, default=1000, help="guided-diffusion: diffusion_steps")
    parser.add_argument("--scale", type=float, default=2.0, help="guided-diffusion: its image is scale x + offset, x in [0, 1]")
    parser.add_argument("--offset", type=float, default=-1.0)
    args = parser.parse_args()
    checkpoint = load(args.checkpoint)
    card = {"layout": args.layout, "points": args.points}
    if args.layout == "ncsnpp":
        state = ncsnpp(checkpoint)
        card["centred"] = args.centred
    else:
        missing = [name for name in ["blocks", "levels", "head_channels"] if getattr(args, name) is None]
        if missing:
            parser.error(f"guided-diffusion needs --{missing[0].replace('_', '-')}")
        state = checkpoint
        card |= {name: getattr(args, name) for name in ["blocks", "levels", "head_channels", "new_attention_order", "schedule", "times"]}
        card |= {"resampling_blocks": not args.convolutions, "scale": args.scale, "offset": args.offset}
    tensors = {name: value.detach().clone().contiguous().float() for name, value in state.items()}
    save_file(tensors, args.file, metadata={"score_network": json.dumps(card)})
    print(f"{args.file}: {sum(v.numel() for v in tensors.values())} numbers in {len(tensors)} tensors, as {args.layout} names them")


if __name__ == "__main__":
    main()
