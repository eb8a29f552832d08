#!/usr/bin/env bash
# Every figure of the detector's card from the pictures on, in one command: copies, traces, views, reports.
#
#     PICTURES=... MORE=... ./reproduce.sh RUN
#
# PICTURES and MORE are folders of pictures (models/training/detector/README.md), RUN a folder for what lies between;
# what is there already is not made again. Needs `retrace` on PATH, the native parts in .runtime/, and Python with
# numpy, scipy, scikit-learn, lightgbm, onnx, onnxruntime, pillow and matplotlib. Takes hours on two cores.
set -euo pipefail
run=$(realpath -m "${1:?folder for copies, traces and views}")
pictures=$(realpath "${PICTURES:?folder of pictures}") more=$(realpath "${MORE:?folder that collect.py wrote}")
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../.. training=$here/../../training/detector detector=$here/../../detector
encoder=$root/.runtime/semantic/clip_encoder.int8.onnx
mkdir -p "$run"

traced() {
    find "$1" \( -name '*.png' -o -name '*.jpg' -o -name '*.webp' \) -print0 | sort -z | xargs -0 -n 500 retrace trace --threads 1 >"$2.part"
    mv "$2.part" "$2"
}

cd "$training"
[ -e "$run/copies/index.csv" ] || python fair_copies.py --pictures "$pictures" --output "$run/copies" --seed 1
[ -e "$run/copies.jsonl" ] || traced "$run/copies" "$run/copies.jsonl"
[ -e "$run/whole/index.csv" ] || python whole_copies.py --pictures "$pictures" --output "$run/whole"
[ -e "$run/more/index.csv" ] || python whole_copies.py --pictures "$more" --tables "$pictures" --output "$run/more"
for set in whole more; do
    folder=$pictures
    [ "$set" = whole ] || folder=$more
    [ -e "$run/$set-reencoded/index.csv" ] ||
        python reencoded_copies.py --pictures "$folder" --tables "$pictures" --output "$run/$set-reencoded"
done
for set in whole more whole-reencoded more-reencoded; do
    [ -e "$run/$set.npz" ] ||
        python embed_views.py --copies "$run/$set" --encoder "$encoder" --detector "$detector" --output "$run/$set.npz"
    [ -e "$run/$set.jsonl" ] || traced "$run/$set" "$run/$set.jsonl"
done
[ -e "$run/splices.npz" ] || python splice_tokens.py --pictures "$pictures" "$more" --encoder "$encoder" \
    --detector "$detector" --output "$run/splices.npz"
python place_head.py --splices "$run/splices.npz" --output "$here"

cd "$here"
python evaluate.py --index "$run/copies/index.csv" --traces "$run/copies.jsonl" --detector "$detector" --output .
python evaluate_fusion.py --views "$run"/{whole,more}{,-reencoded}.npz --index "$run"/{whole,more}{,-reencoded}/index.csv \
    --traces "$run"/{whole,more}{,-reencoded}.jsonl --detector "$detector" --output . --without imagenet-sample
python attribute.py --views "$run/whole.npz" "$run/more.npz" --output .
[ -e "$run/grid/index.csv" ] || python reencode.py --pictures "$pictures" --output "$run/grid"
retrace score --offline --output "$run/grid.csv" --resume "$run/grid"
python flips.py --index "$run/grid/index.csv" --scores "$run/grid.csv" --output .
python report_page.py --output "$run/report.html"
echo "the report is $run/report.html"
