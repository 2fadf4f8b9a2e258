"""Plugin for Orthanc (Python): segments each CT series once it is complete, and stores the mask as DICOM SEG.

    series is stable --> job --> worker: files --> the one session --> SEG --> Orthanc

    GET    /patchmask/jobs          every job since the start: Series, State, Progress (0 to 1), Message, Segmentation
    POST   /patchmask/jobs          body: the ID of a series, which is segmented (again); answers with the job
    GET    /patchmask/jobs/NUMBER   one job
    DELETE /patchmask/jobs/NUMBER   cancels it, within 100 ms on a CPU

Orthanc's configuration says "Patchmask": {"Model": "/path/to/model.safetensors", "Options": {"stride": 8}}; the options
are those of patchmask.Session. When Orthanc stops, the running job is cancelled and nothing is stored.
"""

import json
import queue
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import orthanc

import patchmask
from patchmask.scans import Places, Scan, segment_file

settings = json.loads(orthanc.GetConfiguration())["Patchmask"]
model = patchmask.Model(settings["Model"])  # a bad model or option keeps Orthanc from starting
session = patchmask.Session(model, **settings.get("Options", {}))


@dataclass
class Job:
    Number: int
    Series: str
    State: str = "Pending"  # then Running, then Success, Failure or Cancelled
    Progress: float = 0
    Message: str = ""
    Segmentation: str | None = None  # the ID of the instance that has been stored
    Cancel: bool = False

    def advance(self, fraction: float, stage: str) -> bool:
        """Told by the session every 50 ms; True cancels."""
        self.Progress = fraction
        return self.Cancel

    def run(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            scan, mask = Path(folder, "scan"), Path(folder, "mask")
            scan.mkdir()
            for instance in json.loads(orthanc.RestApiGet(f"/series/{self.Series}"))["Instances"]:
                Path(scan, instance).write_bytes(orthanc.GetDicomForInstance(instance))
            places = Places(mask.with_suffix(".nrrd"), dicom_seg=mask.with_suffix(".dcm"))
            segment_file(session, model, Scan(scan), places, progress=self.advance)
            if self.Cancel:
                raise patchmask.Cancelled("cancelled")
            stored = orthanc.RestApiPost("/instances", mask.with_suffix(".dcm").read_bytes())
            self.Segmentation, self.Progress = json.loads(stored)["ID"], 1


jobs: list[Job] = []
waiting: queue.Queue[Job | None] = queue.Queue()


def add(series: str) -> Job:
    jobs.append(Job(len(jobs), series))
    waiting.put(jobs[-1])
    return jobs[-1]


def work() -> None:
    """One job after the other, until there comes None."""
    while (job := waiting.get()) is not None:
        try:
            if job.Cancel:
                raise patchmask.Cancelled("cancelled")
            job.State = "Running"
            job.run()
            job.State = "Success"
        except patchmask.Cancelled:
            job.State = "Cancelled"
        except Exception as failed:  # whatever it is, the next series is segmented
            job.State, job.Message = "Failure", str(failed)
            orthanc.LogError(f"patchmask: series {job.Series}: {failed}")


worker = threading.Thread(target=work)


def on_change(change: int, level: int, resource: str) -> None:
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        worker.start()
    elif change == orthanc.ChangeType.STABLE_SERIES:
        if json.loads(orthanc.RestApiGet(f"/series/{resource}"))["MainDicomTags"].get("Modality") == "CT":
            add(resource)
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        for job in jobs:
            job.Cancel = True
        waiting.put(None)
        worker.join()
        session.close()


def answer(output, uri: str, **request) -> None:
    method, number = request["method"], "".join(request["groups"])
    if (method, number) == ("GET", ""):
        found = [asdict(job) for job in jobs]
    elif (method, number) == ("POST", ""):
        found = asdict(add(request["body"].decode()))
    elif method in ("GET", "DELETE") and number and int(number) < len(jobs):
        jobs[int(number)].Cancel |= method == "DELETE"
        found = asdict(jobs[int(number)])
    elif method in ("GET", "DELETE") and number:
        return output.SendHttpStatusCode(404)
    else:
        return output.SendMethodNotAllowed("GET,DELETE" if number else "GET,POST")
    output.AnswerBuffer(json.dumps(found), "application/json")


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback("/patchmask/jobs(?:/([0-9]+))?", answer)
