"""Settings of the phantom cohort."""

from dataclasses import dataclass

from voco2d.errors import UsageError


@dataclass(frozen=True)
class PhantomArgs:
    """How phantoms are drawn and written.

    Args:
        size: Rows and columns of a slice, pixels, at least 32.
        mean_slices: Mean number of slices of a series, at least 8; single series lie between 0.7 and 1.4 times as many.
        enriched: Draw about half of the patients injured in each organ instead of the shares of RSNA 2023.
        two_series_share: Share of patients with an arterial and a portal series, 0..1; RSNA 2023 has 0.497.
        incomplete_share: Share of series cut short within an organ, 0..1; RSNA 2023 has 313 of 4,711.
        black_share: Share of series whose first or last slices are partly black, 0..1, as some of RSNA 2023 are.
        sign_scale: Factor on the extent of every injury.
        noise_hu: Mean standard deviation of the noise inside the body, Hounsfield units.
        masks: Write organ masks as NIfTI.
        hospital: Write the tags that a hospital's images have besides, such as modality, SOP class and a made-up name,
            and instance UIDs that no two images share; RSNA's files have none of these.
        first_patient: Index of the first patient; cohorts of one seed whose indices don't meet can be put together.
        workers: Processes; 0 takes one a core.
    """

    size: int = 256
    mean_slices: int = 64
    enriched: bool = False
    two_series_share: float = 0.497
    incomplete_share: float = 0.066
    black_share: float = 0.0
    sign_scale: float = 1.0
    noise_hu: float = 11.0
    masks: bool = True
    hospital: bool = False
    first_patient: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        limits = {
            "size": (self.size, 32, 1024),
            "mean_slices": (self.mean_slices, 8, 1024),
            "two_series_share": (self.two_series_share, 0, 1),
            "incomplete_share": (self.incomplete_share, 0, 1),
            "black_share": (self.black_share, 0, 1),
            "sign_scale": (self.sign_scale, 0.1, 3),
            "noise_hu": (self.noise_hu, 0, 200),
            "first_patient": (self.first_patient, 0, 10**6),
            "workers": (self.workers, 0, 1024),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise UsageError(f"{name}={value}: must lie between {low} and {high}")
